// Python's interpreter: letting other threads go on in it, and in which one a module begins.
#pragma once

#include <pybind11/pybind11.h>
#include <unistd.h>

namespace fastrnn {

// Stays until the process is gone.
[[noreturn]] inline void stay() {
  for (;;) pause();
}

// Takes the interpreter for a thread that had let it go. While the interpreter ends, a thread that
// asks for it, a daemon's, stays here, as it does in Python 3.14. Before, Python ends such a thread
// by unwinding its stack, which would end the process, since destructors lie on the way, or give up
// objects of Python's without its lock.
inline void take_interpreter(PyThreadState* state) {
  struct StayIfUnwound {
    bool taken = false;
    ~StayIfUnwound() {
      if (!taken) stay();
    }
  };
#if PY_VERSION_HEX >= 0x030D0000
  if (Py_IsFinalizing()) stay();
#else
  if (_Py_IsFinalizing()) stay();
#endif
  StayIfUnwound guard;  // it may begin to end right now
  PyEval_RestoreThread(state);
  guard.taken = true;
}

// Lets other threads of Python go on while it lives. Nothing of Python's may be touched meanwhile.
class OthersGoOn {
 public:
  OthersGoOn() : state_(PyEval_SaveThread()) {}
  ~OthersGoOn() { take_interpreter(state_); }
  OthersGoOn(const OthersGoOn&) = delete;
  OthersGoOn& operator=(const OthersGoOn&) = delete;

 private:
  PyThreadState* state_;
};

// Null, with an ImportError, in any interpreter but the process's first.
inline PyObject* in_main_interpreter(PyObject* (*begin)()) {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return begin();
  PyErr_SetString(PyExc_ImportError,
                  "[import] fastrnn must be imported in the process's main interpreter, "
                  "got a subinterpreter");
  return nullptr;
}

}  // namespace fastrnn

// What PYBIND11_MODULE is, for a module of the main interpreter alone: in another one pybind11's
// own beginning may wait for the main one's lock for ever.
#define FASTRNN_MODULE(name, m) FASTRNN_MODULE_NAMED(name, m)
#define FASTRNN_MODULE_NAMED(name, m) FASTRNN_MODULE_OF(name, name##_of_main, m)
#define FASTRNN_MODULE_OF(name, inner, m)                 \
  extern "C" PyObject* PyInit_##inner();                  \
  extern "C" PYBIND11_EXPORT PyObject* PyInit_##name() {  \
    return fastrnn::in_main_interpreter(&PyInit_##inner); \
  }                                                       \
  PYBIND11_MODULE(inner, m, pybind11::mod_gil_not_used())
