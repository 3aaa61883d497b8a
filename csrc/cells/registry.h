// Every cell of the library: name, struct, header. CMake reads these lines and makes one kernel
// unit per cell, instruction set and element type; Python, tests and benchmarks ask the built
// module.
FASTRNN_CELL(rnn_tanh, Rnn<Tanh>, rnn.h)
FASTRNN_CELL(rnn_relu, Rnn<Relu>, rnn.h)
FASTRNN_CELL(rnn_sigmoid, Rnn<Sigmoid>, rnn.h)
FASTRNN_CELL(lstm, Lstm, lstm.h)
FASTRNN_CELL(gru, Gru, gru.h)
