// Keyword arguments from Python, read by name into the members of a C++ struct.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

class Keywords {
 public:
  explicit Keywords(const nanobind::kwargs& given) { unread_.update(given); }

  // Sets the member if the keyword is given. Raises TypeError for a value of another type.
  template <class T>
  void read(const char* name, T& member) {
    if (!unread_.contains(name)) return;
    const nanobind::object value = unread_.attr("pop")(name);
    const bool is_misread =
        !std::is_same_v<T, bool> && nanobind::isinstance<nanobind::bool_>(value);
    if (is_misread || !nanobind::try_cast(value, member))
      throw nanobind::type_error(
          (std::string(name) + " must be " + expected(member) + ", got " + shown(value)).c_str());
  }

  // The same for a member that is empty for None.
  template <class T>
  void read(const char* name, std::optional<T>& member) {
    if (!unread_.contains(name)) return;
    if (nanobind::object(unread_[name]).is_none()) {
      unread_.attr("pop")(name);
    } else {
      T value{};
      read(name, value);
      member = value;
    }
  }

  // Raises TypeError if a keyword was given that nothing has read.
  void refuse_unread() const {
    for (const auto [name, value] : unread_)
      throw nanobind::type_error(("there is no option " + shown(name)).c_str());
  }

 private:
  static std::string shown(nanobind::handle value) {
    return nanobind::cast<std::string>(nanobind::repr(value));
  }
  static const char* expected(bool) { return "True or False"; }
  static const char* expected(int32_t) { return "an int of 32 bits"; }
  static const char* expected(float) { return "a number"; }
  static const char* expected(const std::string&) { return "a str"; }
  static const char* expected(const std::vector<std::string>&) { return "a sequence of str"; }
  static const char* expected(const std::vector<float>&) { return "a sequence of numbers"; }
  // Of other types, such as kv_overrides.
  template <class T>
  static const char* expected(const std::vector<T>&) {
    return "a sequence of pairs (name, bool, int, float or str)";
  }

  nanobind::dict unread_;
};
