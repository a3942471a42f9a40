// Cells whose gates are hard sigmoids: apart from the others, so that those are compiled as if there were none.
#include "gru_reset_after.h"
#include "gru_reset_before.h"
#include "lstm.h"

namespace bilstm {

std::unique_ptr<Direction> make_hard_gates(const DirectionPlan& plan) {
    if (plan.kind == CellKind::lstm) return std::make_unique<CellDirection<Lstm<HardSigmoid>>>(plan);
    if (plan.kind == CellKind::gru) return std::make_unique<CellDirection<Gru<HardSigmoid>>>(plan);
    return std::make_unique<GruResetBeforeDirection<HardSigmoid>>(plan);
}

}  // namespace bilstm
