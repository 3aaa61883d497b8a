// How many processors this process may use: its affinity mask, and the quota of its control groups.
#pragma once

#include <string>

namespace fastrnn {

// Processors that the process may run on at the same time; at least 1. The quota is read once.
int processors();
// What the operating system's affinity mask allows.
int affinity_processors();
// The processors that a control group's quota pays for, rounded up, so that none of it is left
// unused; 0 where there is none. Read once, from the system's own files.
int quota_processors();
// The same from files below `root`: version 2 (cpu.max) and version 1 (cpu.cfs_quota_us) of the
// groups that `root`/proc/self/cgroup names, and of those above them. The smallest counts.
int quota_processors(const std::string& root);

// For tests, whose teams are larger than the machine: from now on so many processors, which are
// never busy; 0: the machine's own.
void pretend_processors(int n);
bool pretending();

}  // namespace fastrnn
