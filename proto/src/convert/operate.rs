//! What ends a run, over the wire. Whether the numbers can be is for the state to say.

use crate::wire;
use common::run::{Budget, Extension};

impl From<Extension> for wire::ExtendRequest {
    fn from(e: Extension) -> Self {
        let Extension { evaluations, hours, device_hours, target_fitness, stagnation } = e;
        wire::ExtendRequest { evaluations, hours, device_hours, target_fitness, stagnation }
    }
}

impl From<wire::ExtendRequest> for Extension {
    fn from(e: wire::ExtendRequest) -> Self {
        let wire::ExtendRequest { evaluations, hours, device_hours, target_fitness, stagnation } = e;
        Extension { evaluations, hours, device_hours, target_fitness, stagnation }
    }
}

impl From<Budget> for wire::Budget {
    fn from(b: Budget) -> Self {
        let Budget { evaluations, hours, device_hours, target_fitness, stagnation } = b;
        wire::Budget { evaluations, hours, device_hours, target_fitness, stagnation }
    }
}

impl From<wire::Budget> for Budget {
    fn from(b: wire::Budget) -> Self {
        let wire::Budget { evaluations, hours, device_hours, target_fitness, stagnation } = b;
        Budget { evaluations, hours, device_hours, target_fitness, stagnation }
    }
}
