// Reads the golden safetensors that other implementations made, for the tests of the optimizers.
// They are not part of the project: where the folder is absent, tests skip and say so.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

namespace tarpon::test {

// TARPON_GOLDEN_DIR, of the environment or else of the build.
inline std::string golden_path(const char *file) {
    const char *folder = std::getenv("TARPON_GOLDEN_DIR");
#ifdef TARPON_GOLDEN_DIR
    if (!folder) folder = TARPON_GOLDEN_DIR;
#endif
    return folder ? std::string(folder) + "/" + file : std::string();
}

// The tensors of one file. Trusts it: the files are made by hand, once.
class Golden {
  public:
    // False, after naming the skip, if the file is not there.
    bool open(const char *file, const char *test) {
        const std::string path = golden_path(file);
        std::ifstream in(path, std::ios::binary);
        if (path.empty() || !in) {
            std::printf("SKIPPED: %s: golden file %s is not there (set TARPON_GOLDEN_DIR)\n", test,
                        path.empty() ? file : path.c_str());
            return false;
        }
        std::stringstream content;
        content << in.rdbuf();
        bytes_ = content.str();
        uint64_t header_bytes;
        std::memcpy(&header_bytes, bytes_.data(), 8);
        data_ = 8 + header_bytes;
        index(bytes_.substr(8, header_bytes));
        return true;
    }

    bool has(const std::string &name) const { return extents_.count(name) != 0; }

    template <class T>
    std::vector<T> get(const std::string &name) const {
        auto found = extents_.find(name);
        if (found == extents_.end()) {
            std::fprintf(stderr, "golden tensor %s is missing\n", name.c_str());
            std::abort();
        }
        auto [begin, end] = found->second;
        std::vector<T> values((end - begin) / sizeof(T));
        std::memcpy(values.data(), bytes_.data() + data_ + begin, end - begin);
        return values;
    }

  private:
    // Finds "name":{..."data_offsets":[begin,end]...} for every tensor; names hold no escapes.
    void index(const std::string &header) {
        std::string text;
        for (char c : header) {
            if (c != ' ') text += c;
        }
        const std::string key = "\"data_offsets\":[";
        for (size_t at = 0; (at = text.find(key, at)) != std::string::npos; at += key.size()) {
            const size_t name_end = text.rfind('"', text.rfind('{', at));
            const size_t name_begin = text.rfind('"', name_end - 1) + 1;
            char *rest;
            const uint64_t begin = std::strtoull(text.c_str() + at + key.size(), &rest, 10);
            const uint64_t end = std::strtoull(rest + 1, nullptr, 10);
            extents_[text.substr(name_begin, name_end - name_begin)] = {begin, end};
        }
    }

    std::string bytes_;
    size_t data_ = 0;
    std::map<std::string, std::pair<uint64_t, uint64_t>> extents_;
};

}  // namespace tarpon::test
