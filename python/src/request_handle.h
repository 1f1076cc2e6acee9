// A request as Python holds it.
#pragma once

#include <memory>
#include <utility>

#include "ersd/request.h"

// Nobody can take the steps of a request that Python has forgotten, so it is cancelled then.
class RequestHandle {
 public:
  explicit RequestHandle(std::shared_ptr<ersd::Request> request) : request_(std::move(request)) {}
  RequestHandle(RequestHandle&&) = default;
  ~RequestHandle() {
    if (request_) request_->cancel();
  }

  ersd::Request& request() const { return *request_; }

 private:
  std::shared_ptr<ersd::Request> request_;
};
