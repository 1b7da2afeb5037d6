// Which rows of a batch a member of the team takes, lot after lot, on their way through the layers.
#pragma once
#include <algorithm>

#include "cpu/team.h"

namespace mlpfast::cpu {

/// How a team shares the products of a batch's rows.
enum class Sharing {
  rows,     // each member takes lots through all layers, until none are left
  strips,   // products by tiles: each owns whole strips of the team's lot
  columns,  // few rows: each owns columns of every layer, and all meet after each
  layers,   // weights beyond L2: all take blocks of one layer's product, and meet after each
};

/// Whether members meet after each layer.
constexpr bool meets(Sharing sharing) { return sharing == Sharing::columns || sharing == Sharing::layers; }

/// What a batch's size makes of it; all members of a team have the same.
struct Plan {
  Sharing sharing = Sharing::rows;
  int64_t unit = 1;  // lots begin at its multiples
  int slabs = 1;     // lots of the team; where members take their own, each is one unit
};

class Lots {
 public:
  /// Before the first lot of a batch; every member comes here.
  void begin(Team& team, int64_t rows, const Plan& plan) {
    rows_ = rows;
    plan_ = plan;
    slabs_taken_ = 0;
    if (plan.sharing == Sharing::rows) team.deal(team.share(ceil_div(rows, plan.unit)));
  }
  /// All rows at hand, before the first lot.
  void whole(Team& team, int64_t rows) {
    lot_ = {0, rows};
    own_ = team.share(rows);
  }
  /// False where no lot is left.
  bool next(Team& team) {
    if (plan_.sharing == Sharing::rows) {
      int64_t unit;
      if (!team.take(unit)) return false;
      lot_ = own_ = {unit * plan_.unit, std::min(rows_, (unit + 1) * plan_.unit)};
      return true;
    }
    if (slabs_taken_ == plan_.slabs) return false;
    lot_ = share(rows_, plan_.unit, plan_.slabs, slabs_taken_++);
    own_ = team.share(lot_, plan_.unit);
    return true;
  }

  Sharing sharing() const { return plan_.sharing; }
  bool meets() const { return cpu::meets(sharing()); }
  /// The rows at hand: this member's, or the team's.
  Range lot() const { return lot_; }
  /// Those of them that this member loads, and takes the loss of.
  Range own() const { return own_; }
  /// Those that this member multiplies by columns_of() the weights.
  Range multiplied() const { return sharing() == Sharing::columns ? lot_ : own_; }

 private:
  int64_t rows_ = 0;
  Plan plan_{};
  int slabs_taken_ = 0;
  Range lot_{}, own_{};
};

}  // namespace mlpfast::cpu
