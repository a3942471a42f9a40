"""What differs between exports: a model's inputs and outputs, and how the example reads and prints them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bilstm.bridges.c.code import array, c_string, lines_of, strings
from bilstm.data.features import CategoricalColumn, NumericColumn
from bilstm.model import TrainedModel
from bilstm.models import Sequential
from bilstm.models.structure import plan_layers
from bilstm.ragged import Ragged
from bilstm.tasks import LabelTask, QuantityTask

_TEST_STEPS = 6
_EMBEDDING = 3


class Parts:
    """What differs between models: inputs, outputs, and how the example reads and prints them.

    Args:
        model: whose columns are read and whose answers are given; None: the network's inputs and outputs.
    """

    def __init__(self, model: TrainedModel | None, network: Sequential, name: str) -> None:
        self.network, self.name = network, name
        assert network.network is not None
        self.engine = network.network
        self.task = model.task if model else None
        self.numbers: list[NumericColumn] = list(model.schema.numeric) if model else []
        self.words: list[CategoricalColumn] = list(model.schema.categorical) if model else []
        self.raw = model is not None
        self.quantities = self.task if isinstance(self.task, QuantityTask) else None
        if isinstance(self.task, LabelTask):
            self.answers = list(self.task.classes)
        else:
            self.answers = list(self.task.columns) if self.task else [str(i) for i in range(self.engine.outputs)]
        if not self.raw:
            width = self.engine.features
            self.numbers = [NumericColumn(str(i), 0.0, 1.0) for i in range(width)]

    def data(self) -> str:
        """Constants and arrays of the model's source."""
        inputs, outputs = _test(self.network)
        rows = "1" if self.engine.one_row_each else "steps"
        texts = [
            f"constexpr int64_t kInputs = {self.engine.features}, kOutputs = {self.engine.outputs}, "
            f"kTestSteps = {_TEST_STEPS};",
            f"constexpr int64_t kRows([[maybe_unused]] int64_t steps) {{ return {rows}; }}",
            array("uint32_t", "kWeights", self._weights()),
            array("uint32_t", "kTestInputs", inputs.ravel().view(np.uint32)),
            array("uint32_t", "kTestOutputs", outputs.ravel().view(np.uint32)),
        ]
        if self.raw:
            texts += self._encoding()
        if self.quantities:
            texts += [
                array("double", "kMeans", self.quantities.mean),
                array("double", "kScales", self.quantities.scale),
            ]
        return "\n".join(texts) + "\n"

    def _weights(self) -> npt.NDArray[np.uint32]:
        return self.engine.read().view(np.uint32)

    def _encoding(self) -> list[str]:
        texts = []
        if self.numbers:
            texts.append("struct Number {\n    double mean, scale;\n    bool flagged;\n};")
            rows = [
                f"{{{column.mean.hex()}, {column.scale.hex()}, {str(bool(column.missing)).lower()}}}"
                for column in self.numbers
            ]
            texts.append("const Number kNumbers[] = {\n" + lines_of(rows) + "};")
        if self.words:
            texts.append(_WORDS)
            for place, column in enumerate(self.words):
                entries = sorted(column.lookup.indices.items(), key=lambda entry: entry[0].encode())
                rows = [f"{{{c_string(text)}, {index + 1}}}" for text, index in entries] or ['{"", 0}']
                texts.append(f"const Word kWords{place}[] = {{\n" + lines_of(rows) + "};")
            rows = [
                f"{{kWords{place}, {len(column.lookup.indices)}, {str(column.lookup.numbers).lower()}}}"
                for place, column in enumerate(self.words)
            ]
            texts.append("const Vocabulary kVocabularies[] = {\n" + lines_of(rows) + "};")
        return texts

    def texts(self) -> dict[str, str]:
        """What the templates hold of it."""
        per_step = "for each sequence" if self.engine.one_row_each else "for each step"
        output = "double" if self.quantities else "float"
        names: dict[str, Sequence[NumericColumn | CategoricalColumn]] = {
            "INPUT" if not self.raw else "NUMBER": self.numbers,
            "WORD": self.words,
        }
        constants = [f"#define {self.name.upper()}_OUTPUTS {len(self.answers)}"]
        constants.append(f"#define {self.name.upper()}_PER_SEQUENCE {int(self.engine.one_row_each)}")
        declared = [f"extern const char* const {self.name}_output_names[{self.name.upper()}_OUTPUTS];"]
        defined = [f"const char* const {self.name}_output_names[] = {strings(self.answers)};"]
        for kind, columns in names.items():
            if columns:
                constants.append(f"#define {self.name.upper()}_{kind}S {len(columns)}")
                declared.append(f"extern const char* const {self.name}_{kind.lower()}_names[{len(columns)}];")
                listed_names = strings([column.name for column in columns])
                defined.append(f"const char* const {self.name}_{kind.lower()}_names[] = {listed_names};")
        return {
            "constants": "\n".join([*constants, "", *declared, ""]),
            "names": "\n".join([*defined, ""]),
            "parameters": ", ".join(self._parameters()),
            "output": output,
            "predict_comment": self._comment(per_step),
            "encode": self._encode(),
            "answer": self._answer(),
            **self._example(),
        }

    def _parameters(self) -> list[str]:
        if not self.raw:
            return ["const float* inputs"]
        parameters = ["const double* numbers"] if self.numbers else []
        return parameters + (["const char* const* words"] if self.words else [])

    def _comment(self, per_step: str) -> str:
        upper = self.name.upper()
        lines = ["Predicts for one sequence.", ""]
        if not self.raw:
            lines.append(f"  inputs   steps x {upper}_INPUTS: encoded, finite numbers.")
        if self.raw and self.numbers:
            lines.append(f"  numbers  steps x {upper}_NUMBERS, in the order of {self.name}_number_names; NaN: missing.")
        if self.words:
            lines.append(
                f"  words    steps x {upper}_WORDS, in the order of {self.name}_word_names, UTF-8; NULL: missing."
            )
        what = "quantities" if self.quantities else "probabilities" if self.task else "the last layer's outputs"
        lines.append(f"  outputs  {upper}_OUTPUTS {per_step}: {what}, in the order of {self.name}_output_names.")
        lines += [
            "",
            "Returns 0; 1 if steps are fewer than 1 or more than opened for, or a number is infinite; 2 if it",
        ]
        lines.append("failed for another reason.")
        return "/* " + "\n * ".join(lines).replace(" * \n", " *\n") + " */"

    def _encode(self) -> str:
        if not self.raw:
            return _ENCODE_INPUTS
        lines = ["        float* to = model->inputs.data();", "        for (int64_t step = 0; step < steps; ++step) {"]
        lines += [_ENCODE_NUMBERS] if self.numbers else []
        lines += [_ENCODE_WORDS] if self.words else []
        return "\n".join([*lines, "        }"])

    def _answer(self) -> str:
        if not self.quantities:
            return "        model->predict(steps, outputs);"
        return _ANSWER_QUANTITIES

    def _example(self) -> dict[str, str]:
        """Parts of the example program."""
        upper, name = self.name.upper(), self.name
        columns, read, clear, arguments = [], [], [], []
        if self.numbers:
            kind, target, cell = ("number", "double", "std::strtod") if self.raw else ("input", "float", "std::strtof")
            columns.append(f"    const std::vector<size_t> number_columns = find(header, {name}_{kind}_names, "
                           f"{upper}_{kind.upper()}S);\n    std::vector<{target}> numbers;")  # fmt: skip
            read.append(
                f"        for (const size_t column : number_columns)\n"
                f"            numbers.push_back(cells[column].empty() ? std::numeric_limits<{target}>::quiet_NaN()\n"
                f"                                                    : {cell}(cells[column].c_str(), nullptr));"
            )
            clear.append("        numbers.clear();")
            arguments.append("numbers.data()")
        if self.words:
            columns.append(
                f"    const std::vector<size_t> word_columns = find(header, {name}_word_names, {upper}_WORDS);\n"
                f"    std::vector<std::string> words;\n    std::vector<const char*> pointers;"
            )
            read.append("        for (const size_t column : word_columns) words.push_back(cells[column]);")
            clear.append("        words.clear();")
            arguments.append("pointers.data()")
        prepare = (
            "        pointers.clear();\n"
            "        for (const std::string& word : words) pointers.push_back(word.c_str());\n"
        )
        printed = _PRINT_LABEL if isinstance(self.task, LabelTask) else _PRINT_ALL
        texts = {"columns": columns, "read": read, "clear": clear}
        joined = {key: "".join(f"{line}\n" for line in lines) for key, lines in texts.items()}
        joined["columns"] = joined["columns"].rstrip("\n")
        printed = re.sub(r"@(\w+)@", lambda found: {"name": name, "NAME": upper}[found[1]], printed)
        return {**joined, "prepare": prepare if self.words else "", "arguments": ", ".join(arguments), "print": printed}


def _test(network: Sequential) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Inputs that the network takes, and its outputs for them."""
    assert network.network is not None
    engine, random = network.network, np.random.default_rng(0)
    values = random.normal(size=(_TEST_STEPS, engine.features)).astype(np.float32)
    first = plan_layers(network.layers[:1], engine.features)
    if first and first[0].kind == _EMBEDDING:
        for table in range(first[0].tables):
            values[:, first[0].numeric + table] = random.integers(first[0].vocabularies[table], size=_TEST_STEPS)
    outputs: Any = engine.predict(Ragged.from_sequences([values]))[0]
    return values, outputs


_WORDS = """struct Word {
    const char* text;
    int64_t index;
};
struct Vocabulary {
    const Word* words;
    int64_t count;
    bool numbers;  // 1.0 means 1
};

// Whether a text without its last `cut` characters comes before, is, or comes after another.
int compare(const char* text, size_t length, const char* other) {
    const size_t own = std::strlen(other), least = length < own ? length : own;
    const int first = std::memcmp(text, other, least);
    return first ? first : length < own ? -1 : length > own ? 1 : 0;
}

// Of a whole number without its .0; of any other text all.
size_t length_of(const char* text) {
    const size_t all = std::strlen(text);
    size_t digits = text[0] == '-' ? 1 : 0;
    const size_t first = digits;
    while (text[digits] >= '0' && text[digits] <= '9') ++digits;
    if (digits == first || text[digits] != '.') return all;
    size_t zeros = digits + 1;
    while (text[zeros] == '0') ++zeros;
    return text[zeros] == 0 && zeros > digits + 1 ? digits : all;
}

float index_of(const Vocabulary& vocabulary, const char* text) {
    if (!text) text = "";
    const size_t length = vocabulary.numbers ? length_of(text) : std::strlen(text);
    int64_t low = 0, high = vocabulary.count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        const int order = compare(text, length, vocabulary.words[middle].text);
        if (order == 0) return static_cast<float>(vocabulary.words[middle].index);
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return 0;
}"""

_ENCODE_INPUTS = """        for (int64_t i = 0; i < steps * kInputs; ++i) {
            if (!std::isfinite(inputs[i])) return 1;
            model->inputs[static_cast<size_t>(i)] = inputs[i];
        }"""

_ENCODE_NUMBERS = """            for (const Number& column : kNumbers) {
                const double number = *numbers++;
                const bool missing = std::isnan(number);
                double scaled = missing ? 0.0 : (number - column.mean) / column.scale;
                if (std::isinf(scaled)) scaled = (number / 2 - column.mean / 2) / column.scale * 2;
                if (!(std::fabs(scaled) <= static_cast<double>(FLT_MAX))) return 1;
                *to++ = static_cast<float>(scaled);
                if (column.flagged) *to++ = missing ? 1.0f : 0.0f;
            }"""

_ENCODE_WORDS = (
    """            for (const Vocabulary& vocabulary : kVocabularies) *to++ = index_of(vocabulary, *words++);"""
)

_ANSWER_QUANTITIES = """        model->predict(steps, model->outputs.data());
        for (int64_t i = 0; i < kRows(steps) * kOutputs; ++i) {
            const double scaled = static_cast<double>(model->outputs[static_cast<size_t>(i)]) * kScales[i % kOutputs];
            outputs[i] = scaled + kMeans[i % kOutputs];
        }"""

_PRINT_LABEL = """            int best = 0;
            for (int i = 1; i < @NAME@_OUTPUTS; ++i)
                if (own[i] > own[best]) best = i;
            std::printf("%s,%.6f\\n", @name@_output_names[best], static_cast<double>(own[best]));
"""

_PRINT_ALL = """            for (int i = 0; i < @NAME@_OUTPUTS; ++i)
                std::printf("%s%.9g", i ? "," : "", static_cast<double>(own[i]));
            std::printf("\\n");
"""
