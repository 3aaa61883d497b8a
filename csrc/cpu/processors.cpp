#include "processors.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <charconv>
#include <cmath>
#include <string_view>

namespace fastrnn {

namespace {

std::atomic<int> pretended{0};

// What a file holds, whose size the system does not know before; empty where it cannot be read.
// Not by C++ streams: libraries of CUDA export their own copies of these, and an import after
// torch's would call a mixture of both.
std::string contents(const std::string& path) {
  std::string text;
  const int file = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return text;
  char buffer[4096];
  for (ssize_t n; (n = read(file, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  close(file);
  return text;
}

// What comes before the separator, which goes with it. The end of the text separates too.
std::string_view take_until(std::string_view& text, char separator) {
  const size_t end = std::min(text.find(separator), text.size());
  const std::string_view taken = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return taken;
}

// The number that a word begins with; 0 where it is none.
double number(std::string_view word) {
  int64_t value = 0;
  std::from_chars(word.data(), word.data() + word.size(), value);
  return static_cast<double>(value);
}

// The quota of one group, in processors; 0: none. Files that are missing or hold anything else
// set no limit.
double in_processors(double quota, double period) {
  return quota > 0 && period > 0 ? quota / period : 0;
}
double quota_of_version_2(const std::string& folder) {
  const std::string text = contents(folder + "/cpu.max");
  std::string_view rest = text;
  const double quota = number(take_until(rest, ' '));
  return in_processors(quota, number(rest));
}
double quota_of_version_1(const std::string& folder) {
  return in_processors(number(contents(folder + "/cpu.cfs_quota_us")),
                       number(contents(folder + "/cpu.cfs_period_us")));
}

// The smallest quota of a group and of all above it.
double min_quota(const std::string& mount, std::string group,
                 double (*quota_of)(const std::string&)) {
  double min = 0;
  for (;;) {
    const double quota = quota_of(mount + group);
    if (quota > 0 && (min == 0 || quota < min)) min = quota;
    const size_t slash = group.rfind('/');
    if (slash == std::string::npos) return min;
    group.resize(slash);
  }
}

bool lists(std::string_view controllers, std::string_view name) {
  while (!controllers.empty())
    if (take_until(controllers, ',') == name) return true;
  return false;
}

}  // namespace

int quota_processors(const std::string& root) {
  const std::string groups = contents(root + "/proc/self/cgroup");
  double min = 0;
  // A line is hierarchy:controllers:/path; version 2 has hierarchy 0 and names no controllers.
  for (std::string_view rest = groups; !rest.empty();) {
    std::string_view line = take_until(rest, '\n');
    if (std::count(line.begin(), line.end(), ':') < 2) continue;
    take_until(line, ':');
    const std::string controllers(take_until(line, ':'));
    std::string group(line);
    if (group == "/") group.clear();
    double quota = 0;
    if (controllers.empty()) {
      quota = min_quota(root + "/sys/fs/cgroup", group, quota_of_version_2);
    } else if (lists(controllers, "cpu")) {
      quota = min_quota(root + "/sys/fs/cgroup/" + controllers, group, quota_of_version_1);
      if (quota == 0)  // where the controllers' own name is no link to the joint hierarchy
        quota = min_quota(root + "/sys/fs/cgroup/cpu", group, quota_of_version_1);
    }
    if (quota > 0 && (min == 0 || quota < min)) min = quota;
  }
  return min > 0 ? static_cast<int>(std::ceil(std::min(min, 4096.0))) : 0;
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
