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

// What an import ends with in any interpreter but the one that the process began with.
constexpr char kNotMain[] =
    "[import] fastrnn must be imported in the process's main interpreter, got a subinterpreter";
inline bool in_main_interpreter() { return PyInterpreterState_Get() == PyInterpreterState_Main(); }
inline PyObject* begin_in_main(PyObject* (*begin)()) {
  if (in_main_interpreter()) return begin();
  PyErr_SetString(PyExc_ImportError, kNotMain);
  return nullptr;
}

}  // namespace fastrnn

// What PYBIND11_MODULE is, for a module of the main interpreter alone. Asked twice: until Python
// 3.12 pybind11's own beginning would wait for the main one's lock for ever in another one; later
// Python itself calls the first function in the main one, whoever imports.
#define FASTRNN_MODULE(name, m) FASTRNN_MODULE_NAMED(name, m)
#define FASTRNN_MODULE_NAMED(name, m) FASTRNN_MODULE_OF(name, name##_of_main, m)
#define FASTRNN_MODULE_OF(name, inner, m)                                                 \
  extern "C" PyObject* PyInit_##inner();                                                  \
  extern "C" PYBIND11_EXPORT PyObject* PyInit_##name() {                                  \
    return fastrnn::begin_in_main(&PyInit_##inner);                                       \
  }                                                                                       \
  static void fill_##name(pybind11::module_&);                                            \
  PYBIND11_MODULE(inner, module, pybind11::mod_gil_not_used()) {                          \
    if (!fastrnn::in_main_interpreter()) throw pybind11::import_error(fastrnn::kNotMain); \
    fill_##name(module);                                                                  \
  }                                                                                       \
  void fill_##name(pybind11::module_& m)
