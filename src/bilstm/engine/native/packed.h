// Weights in the order in which the micro-kernel reads them, and the parameters made of them.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "bfloat16.h"
#include "memory.h"

namespace bilstm {

// A matrix whose columns are cut into panels (the last may be narrower, a multiple of kLanes); each panel is stored row
// after row.
struct PackedShape {
    int64_t rows = 0;
    int64_t columns = 0;  // padded to a multiple of kLanes
    int64_t panel = kPanel;

    int64_t size() const { return checked_product(rows, columns); }
    int64_t panels() const { return (columns + panel - 1) / panel; }
    int64_t width(int64_t number) const { return std::min(panel, columns - number * panel); }
    int64_t start(int64_t number) const { return number * panel * rows; }
    int64_t position(int64_t row, int64_t column) const {
        const int64_t number = column / panel;
        return start(number) + row * width(number) + column % panel;
    }
};

// One weight array as the outside knows it: `rows` x `columns`, kept in a packed matrix from first_row on, in every
// row_step-th row.
struct Variable {
    int64_t rows, columns, first_row;
    int64_t row_step = 1;

    int64_t packed_row(int64_t row) const { return first_row + row * row_step; }
};

// A packed matrix that is learned. Row 0 is the bias unless the parameter is a plain table.
struct Parameter {
    PackedShape shape;
    std::vector<Variable> variables;  // in the order of get_weights()
    std::vector<int64_t> columns;     // the packed column of each column of a variable
    bool biased = true;               // see drop_biases
    // Of moving averages, which no optimizer changes: the fraction of its gradient by which a training step moves each
    // towards what it averages, and which is how far it is from that.
    std::optional<float> moves;
    bool frozen = false;  // never learned, without place for gradients: tables may be large
    bool plain = false;   // rows of shape.columns numbers one after the other, without panels
    Buffer value;
    Buffer gradient, first_moment, second_moment;  // zeros, once one of them is asked for: see `learnt`
    Buffer average;                                // of the values of many steps; nothing there before it is asked for
    Buffer rounded;                                // to bfloat16, for predictions that ask for it

    // Without biases their rows stay in place, zeros forever: no array of the outside's, and of gradients that are
    // zeros, as sums of products with `bias_feature`. To be called before anything is learned.
    void drop_biases() {
        variables.pop_back();
        biased = false;
    }
    float bias_feature() const { return biased ? 1.0f : 0.0f; }
    void allocate() { value.reserve_zeroed(shape.size()); }
    // Makes place for what training needs, three times the weights: predictions do without.
    Parameter& learnt() {
        if (frozen) return *this;
        for (Buffer* buffer : {&gradient, &first_moment, &second_moment})
            if (!buffer->data()) buffer->reserve_zeroed(shape.size());
        return *this;
    }
    Buffer& averaged() {
        if (frozen) return value;
        if (!average.data()) std::copy_n(value.data(), shape.size(), average.reserve(shape.size()));
        return average;
    }
    // The panels of float or Bfloat16 weights. Biases are always read as float.
    template <typename Weight>
    const Weight* panels() const {
        if constexpr (std::is_same_v<Weight, float>)
            return value.data();
        else
            return reinterpret_cast<const Bfloat16*>(rounded.data());
    }
    void round() {
        auto* to = reinterpret_cast<Bfloat16*>(rounded.reserve((shape.size() + 1) / 2));
        for (int64_t panel = 0; panel < shape.panels(); ++panel) {
            const int64_t width = shape.width(panel);
            for (int64_t row = 0, at = shape.start(panel); row < shape.rows; ++row, at += width)
                round_row(value.data() + at, width / kLanes, to + at);
        }
    }
    int64_t count() const {
        int64_t total = 0;
        for (const Variable& v : variables) total += v.rows * v.columns;
        return total;
    }
    int64_t position(int64_t row, int64_t column) const {
        return plain ? row * shape.columns + column : shape.position(row, column);
    }
    // Calls visit(position in the packed matrix) for every number, in the outside's order.
    template <typename Visit>
    void each(Visit&& visit) const {
        // Found once for each column: `position` divides.
        std::vector<std::pair<int64_t, int64_t>> places;  // the position in row 0, and from one row to the next
        for (const int64_t column : columns)
            places.emplace_back(position(0, column), position(1, column) - position(0, column));
        for (const Variable& v : variables)
            for (int64_t row = 0; row < v.rows; ++row)
                for (size_t column = 0; column < static_cast<size_t>(v.columns); ++column)
                    visit(places[column].first + v.packed_row(row) * places[column].second);
    }
};

// A dense layer's weights: a bias row, then one row an input. Of all layers, biases are the last variable.
inline void shape_dense(Parameter& parameter, int64_t inputs, int64_t units) {
    parameter.shape = {inputs + 1, round_up(units, kLanes)};
    parameter.variables = {{inputs, units, 1}, {1, units, 0}};
    for (int64_t unit = 0; unit < units; ++unit) parameter.columns.push_back(unit);
    parameter.allocate();
}

// Lanes that a gate has in the panel of an LSTM's units from `unit` on: a vector's, or in a last panel of few units
// half or a quarter of them, so that several gates share a vector.
inline int64_t gate_lanes(int64_t units, int64_t unit) {
    const int64_t left = units - unit;
    return left <= kLanes / 4 ? kLanes / 4 : left <= kLanes / 2 ? kLanes / 2 : kLanes;
}

// An LSTM's: a bias row, the inputs' rows, the recurrent rows. A panel holds the gates i, f, c, o of kLanes units.
inline void shape_lstm(Parameter& parameter, int64_t inputs, int64_t units) {
    const int64_t last = (units - 1) / kLanes * kLanes;
    parameter.shape = {inputs + units + 1, checked_product(4, last + gate_lanes(units, last))};
    parameter.variables = {{inputs, 4 * units, 1}, {units, 4 * units, 1 + inputs}, {1, 4 * units, 0}};
    for (int64_t gate = 0; gate < 4; ++gate)
        for (int64_t unit = 0; unit < units; ++unit)
            parameter.columns.push_back(unit / kLanes * kPanel + gate * gate_lanes(units, unit - unit % kLanes) +
                                        unit % kLanes);
    parameter.allocate();
}

// A GRU's: a bias row, the inputs' rows, a second bias row where the reset gate comes after the recurrent product, the
// recurrent rows. A panel holds the gates z, r, h of kLanes units, a vector each.
inline void shape_gru(Parameter& parameter, int64_t inputs, int64_t units, bool reset_after) {
    constexpr int64_t kGates = 3, kWidth = kGates * kLanes;
    const int64_t biases = reset_after ? 2 : 1;
    parameter.shape = {inputs + units + biases, checked_product(kGates, round_up(units, kLanes)), kWidth};
    parameter.variables = {
        {inputs, kGates * units, 1}, {units, kGates * units, inputs + biases}, {biases, kGates * units, 0, inputs + 1}};
    for (int64_t gate = 0; gate < kGates; ++gate)
        for (int64_t unit = 0; unit < units; ++unit)
            parameter.columns.push_back(unit / kLanes * kWidth + gate * kLanes + unit % kLanes);
    parameter.allocate();
}

// A simple recurrent layer's: a bias row, the inputs' rows, the recurrent rows; a column per unit.
inline void shape_simple(Parameter& parameter, int64_t inputs, int64_t units) {
    shape_dense(parameter, inputs + units, units);
    parameter.variables = {{inputs, units, 1}, {units, units, 1 + inputs}, {1, units, 0}};
}

}  // namespace bilstm
