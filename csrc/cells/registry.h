// Every cell of the library: name, struct, header. CMake reads these lines and makes one kernel
// unit per cell, instruction set and element type; Python, tests and benchmarks ask the built
// module, and one unit of kernels for GPUs per cell. Those that project have the name of another
// before _projected, and serve its layers with a proj_size.
FASTRNN_CELL(rnn_tanh, Rnn<Tanh>, rnn.h)
FASTRNN_CELL(rnn_relu, Rnn<Relu>, rnn.h)
FASTRNN_CELL(rnn_sigmoid, Rnn<Sigmoid>, rnn.h)
FASTRNN_CELL(lstm, Lstm, lstm.h)
FASTRNN_CELL(gru, Gru, gru.h)
FASTRNN_TWO_PHASES(gru_reset_before, GruResetBefore, gru_reset_before.h)
FASTRNN_PROJECTED(lstm_projected, Projected<Lstm>, projected.h)
// Those whose functions are chosen when a layer is made (chosen.h): core/cell_name.cpp says which
// names they serve.
FASTRNN_CHOSEN_CELL(chosen_rnn, AnyRnn, rnn.h)
FASTRNN_CHOSEN_CELL(chosen_lstm, PeepholeLstm, lstm.h)
FASTRNN_CHOSEN_CELL(chosen_lstm_coupled, CoupledLstm, lstm_coupled.h)
FASTRNN_CHOSEN_CELL(chosen_gru, Gru, gru.h)
FASTRNN_CHOSEN_TWO_PHASES(chosen_gru_reset_before, GruResetBefore, gru_reset_before.h)
FASTRNN_CHOSEN_PROJECTED(chosen_lstm_projected, Projected<PeepholeLstm>, projected.h)
