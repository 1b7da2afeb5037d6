#pragma once

namespace mlpfast::cpu {

/// Whether this process may use AMX.
bool amx_usable();

}  // namespace mlpfast::cpu
