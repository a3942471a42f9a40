#include "gru_reset_before.h"

namespace bilstm {
namespace {

// Of this file alone, as what compilers make of it then is: they inline more of that.
struct Gates : Sigmoid {
    using Sigmoid::Sigmoid;
};

}  // namespace

std::unique_ptr<Direction> make_gru_reset_before(const DirectionPlan& plan) {
    return std::make_unique<GruResetBeforeDirection<Gates>>(plan);
}

}  // namespace bilstm
