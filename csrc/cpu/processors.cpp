#include "processors.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <fstream>
#include <sstream>

namespace fastrnn {

namespace {

std::atomic<int> pretended{0};

// The quota of one group, in processors; 0: none. Files that are missing or hold anything else
// set no limit.
double quota_of_version_2(const std::string& folder) {
  std::ifstream file(folder + "/cpu.max");
  double quota = 0, period = 0;
  return file >> quota >> period && quota > 0 && period > 0 ? quota / period : 0;
}
double quota_of_version_1(const std::string& folder) {
  std::ifstream quota_file(folder + "/cpu.cfs_quota_us"),
      period_file(folder + "/cpu.cfs_period_us");
  double quota = 0, period = 0;
  return quota_file >> quota && period_file >> period && quota > 0 && period > 0 ? quota / period
                                                                                 : 0;
}

// The least quota of a group and of all above it.
double least_quota(const std::string& mount, std::string group,
                   double (*quota_of)(const std::string&)) {
  double least = 0;
  for (;;) {
    const double quota = quota_of(mount + group);
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return least;
    group.resize(slash);
  }
}

bool lists(const std::string& controllers, const std::string& name) {
  std::istringstream all(controllers);
  for (std::string each; std::getline(all, each, ',');)
    if (each == name) return true;
  return false;
}

}  // namespace

int quota_processors(const std::string& root) {
  std::ifstream groups(root + "/proc/self/cgroup");
  double least = 0;
  // A line is hierarchy:controllers:/path; version 2 has hierarchy 0 and names no controllers.
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    double quota = 0;
    if (controllers.empty()) {
      quota = least_quota(root + "/sys/fs/cgroup", group, quota_of_version_2);
    } else if (lists(controllers, "cpu")) {
      quota = least_quota(root + "/sys/fs/cgroup/" + controllers, group, quota_of_version_1);
      if (quota == 0)  // where the controllers' own name is no link to the joint hierarchy
        quota = least_quota(root + "/sys/fs/cgroup/cpu", group, quota_of_version_1);
    }
    if (quota > 0 && (least == 0 || quota < least)) least = quota;
  }
  return least > 0 ? static_cast<int>(std::ceil(std::min(least, 4096.0))) : 0;
}

int quota_processors() {
  static const int quota = quota_processors(std::string());
  return quota;
}

int affinity_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
  return static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
}

int processors() {
  const int instead = pretended.load(std::memory_order_relaxed);
  if (instead > 0) return instead;
  const int quota = quota_processors(), mask = affinity_processors();
  return quota > 0 ? std::min(quota, mask) : mask;
}

void pretend_processors(int n) { pretended = n; }
bool pretending() { return pretended.load(std::memory_order_relaxed) > 0; }

}  // namespace fastrnn
