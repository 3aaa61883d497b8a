// What the emulated module has beside fastrnn._cuda's: how the emulator runs, what its device is
// said to be, and its streams, to which an array library of Python's brings its work too.
#pragma once

#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "device_emulated.h"
#include "emulator.h"
#include "graph_emulated.h"
#include "queue.h"

namespace fastrnn {
namespace emulation {

inline Schedule schedule_of(const std::string& name) {
  return name == "forward"   ? Schedule::kForward
         : name == "reverse" ? Schedule::kReverse
                             : Schedule::kRandom;
}

inline void bind(pybind11::module_& m) {
  m.def("use_schedule",
        [](const std::string& name, uint64_t seed) { use_schedule(schedule_of(name), seed); });
  m.def("queue_work",
        [](const std::string& order, uint64_t seed) { queue_work(schedule_of(order), seed); });
  m.def("run_at_once", &run_at_once);
  m.def("enqueue", &enqueue, pybind11::arg("stream"), pybind11::arg("work"));
  m.def("record", &record, pybind11::arg("stream"));
  m.def("wait", &wait, pybind11::arg("stream"), pybind11::arg("event"));
  m.def("synchronize", &synchronize, pybind11::arg("stream"));
  m.def("synchronize_all", &synchronize_all);
  m.def("remove", &remove);
  m.def("executed", &executed);
  m.def("lose_arrival", &lose_arrival, pybind11::arg("after"));
  m.def("use_device", &use_device, pybind11::arg("processors"), pybind11::arg("shared_per_block"),
        pybind11::arg("cooperative"), pybind11::arg("gigahertz") = 1.7,
        pybind11::arg("max_cluster") = 16, pybind11::arg("architecture") = 90);
  m.def("place_on", &place_on);
  m.def("take_host_arrays", &take_host_arrays);
  m.def("leave_to_host", &leave_to_host, pybind11::arg("pointer"), pybind11::arg("bytes"));
  m.def("take_from_host", &take_from_host, pybind11::arg("pointer"));
  m.def("limit_cooperative", &limit_cooperative, pybind11::arg("blocks"));
  m.def("fail_next_call", &fail_next_call);
  m.def("refuse_recording", &refuse_recording, pybind11::arg("refuse"));
  m.def("hold_replays", &hold_replays, pybind11::arg("hold"));
  m.def("replays", &replays);
}

}  // namespace emulation
}  // namespace fastrnn
