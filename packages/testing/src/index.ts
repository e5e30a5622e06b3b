/* Public names of @vfio/testing, by room. */

// Faults and interleavings

export {
  type Exploration,
  ExplorationError,
  type ExploreOptions,
  type ExploreReport,
  type ExplorerSeams,
  explore,
} from './explorer.js';
export { type FaultContext, type FaultPlan, type FaultReport, FaultRunError, forEachFault } from './faults.js';
