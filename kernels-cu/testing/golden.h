// Reads the golden safetensors that other implementations made. They are not part of the project:
// where their folder (TARPON_GOLDEN_DIR, of the environment or else of the build) is absent, a test
// that opens one is skipped by name.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "testing/test.h"

namespace tarpon::testing {

class GoldenFile {
  public:
    explicit GoldenFile(const std::string &file) {
        const char *folder = std::getenv("TARPON_GOLDEN_DIR");
#ifdef TARPON_GOLDEN_DIR
        if (!folder) folder = TARPON_GOLDEN_DIR;
#endif
        if (!folder) SKIP("set TARPON_GOLDEN_DIR to the folder of golden tensors");
        const std::string path = std::string(folder) + "/" + file;
        std::ifstream in(path, std::ios::binary);
        if (!in) SKIP("golden tensors are absent: %s", path.c_str());
        bytes_.assign(std::istreambuf_iterator<char>(in), {});
        uint64_t header_bytes = 0;
        REQUIRE(bytes_.size() > sizeof header_bytes, "%s", path.c_str());
        std::memcpy(&header_bytes, bytes_.data(), sizeof header_bytes);
        REQUIRE(header_bytes <= bytes_.size() - sizeof header_bytes, "%s", path.c_str());
        header_ = bytes_.substr(sizeof header_bytes, header_bytes);
        data_ = bytes_.data() + sizeof header_bytes + header_bytes;
    }

    // The elements of a tensor, row-major.
    template <class T>
    std::vector<T> get(const std::string &tensor) const {
        const size_t entry = header_.find("\"" + tensor + "\"");
        REQUIRE(entry != std::string::npos, "no tensor %s", tensor.c_str());
        const size_t offsets = header_.find('[', header_.find("\"data_offsets\"", entry));
        REQUIRE(offsets != std::string::npos, "no offsets of tensor %s", tensor.c_str());
        char *rest = nullptr;
        const uint64_t begin = std::strtoull(header_.c_str() + offsets + 1, &rest, 10);
        const uint64_t end =
            std::strtoull(header_.c_str() + header_.find(',', offsets) + 1, &rest, 10);
        REQUIRE(begin <= end && data_ + end <= bytes_.data() + bytes_.size(), "tensor %s",
                tensor.c_str());
        std::vector<T> values((end - begin) / sizeof(T));
        std::memcpy(values.data(), data_ + begin, end - begin);
        return values;
    }

  private:
    std::string bytes_, header_;
    const char *data_ = nullptr;
};

}  // namespace tarpon::testing
