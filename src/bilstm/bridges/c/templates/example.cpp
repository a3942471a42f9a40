// Reads CSV from standard input, line by line: a header with the names of the columns, in any order and among others,
// then a line for each step; a blank line ends a sequence. Prints the answers. See @name@.h for how to build it.
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "@name@.h"

namespace {

constexpr int64_t kMostSteps = 100'000;  // of a sequence

std::vector<std::string> cells_of(const std::string& line) {
    std::vector<std::string> cells;
    std::stringstream stream(line);
    for (std::string cell; std::getline(stream, cell, ',');) cells.push_back(cell);
    if (!line.empty() && line.back() == ',') cells.push_back("");
    return cells;
}

// The next line, without what ends it.
bool next_line(std::string& line) {
    if (!std::getline(std::cin, line)) return false;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    return true;
}

// Which column has each name.
std::vector<size_t> find(const std::vector<std::string>& header, const char* const* names, int count) {
    std::vector<size_t> found;
    for (int i = 0; i < count; ++i) {
        size_t column = 0;
        while (column < header.size() && header[column] != names[i]) ++column;
        if (column == header.size()) {
            std::fprintf(stderr, "the header has no column %s\n", names[i]);
            std::exit(2);
        }
        found.push_back(column);
    }
    return found;
}

}  // namespace

int main() {
    const char* problem = nullptr;
    @name@_model* model = @name@_open(kMostSteps, &problem);
    if (!model) {
        std::fprintf(stderr, "%s\n", problem);
        return 2;
    }
    std::string line;
    next_line(line);
    const std::vector<std::string> header = cells_of(line);
@columns@
    std::vector<@output@> outputs;
    int64_t steps = 0;
    const auto answer = [&] {
        if (!steps) return;
        const int64_t rows = @NAME@_PER_SEQUENCE ? 1 : steps;
        outputs.resize(static_cast<size_t>(rows * @NAME@_OUTPUTS));
@prepare@        if (@name@_predict(model, @arguments@, steps, outputs.data())) {
            std::fprintf(stderr, "a sequence is too long, or has a number that is infinite\n");
            std::exit(1);
        }
        for (int64_t row = 0; row < rows; ++row) {
            const @output@* own = outputs.data() + row * @NAME@_OUTPUTS;
@print@        }
        std::printf("\n");
        steps = 0;
@clear@    };
    while (next_line(line)) {
        if (line.empty()) {
            answer();
            continue;
        }
        const std::vector<std::string> cells = cells_of(line);
        if (cells.size() != header.size()) {
            std::fprintf(stderr, "a line has %zu cells, the header %zu\n", cells.size(), header.size());
            return 1;
        }
@read@        ++steps;
    }
    answer();
    @name@_close(model);
}
