//! What a rehearsal writes, against what it said that it would write.

use super::*;
use crate::checkpoint::{Checkpoint, Dtype};
use crate::device::Chosen;
use crate::locate::Locator;
use crate::memory::Workload;
use crate::model::Passes;
use crate::pipeline::Bench;
use std::sync::atomic::AtomicBool;

#[test]
fn the_published_shapes_have_their_known_sizes() {
    let family = |name: &str, tower| Family {
        size: Size::named(name).expect("a size"),
        tower,
        sources: 4,
        samples: 2,
        new_tokens: 4,
        dtype: Dtype::Bf16,
    };
    assert_eq!(family("8b", Tower::Full).parameters().expect("sound"), 8_030_261_248);
    assert_eq!(family("1b", Tower::Full).parameters().expect("sound"), 1_235_814_400);
    let full = family("8b", Tower::Full).config().expect("sound");
    assert_eq!((full.image_tokens(), full.input_size()), (729, 1152));
    for size in SIZES {
        family(size.name, Tower::Scaled).config().expect("sound");
    }
}

#[test]
fn what_is_written_is_what_was_planned_from_shapes_alone() {
    let dir = tempfile::tempdir().expect("a folder");
    let chosen = Chosen::cpu(None);
    let family = Family {
        size: Size::named("0.01b").expect("a size"),
        tower: Tower::Scaled,
        sources: 2,
        samples: 2,
        new_tokens: 3,
        dtype: Dtype::Bf16,
    };
    let bytes = family.write(dir.path(), 2, &AtomicBool::new(false), &mut |_| ()).expect("a disk");
    let stored = |name: &str| {
        let model = Checkpoint::open(&dir.path().join(name)).expect("just written");
        let infos: Vec<_> = model.names().filter_map(|n| model.info(n)).collect();
        infos.iter().map(|i| (i.elements * i.dtype.width()) as u64).sum::<u64>()
    };
    assert_eq!(bytes, ["base", "source1", "vlm"].map(stored).iter().sum::<u64>());
    let run = crate::asking::read_run(&dir.path().join("run.toml"), &[]).expect("a sound run file");
    let bench = Bench::open(&run, &Locator::default(), &chosen).expect("models that fit each other");
    let real = Workload::of_run(&bench, &run, 2, 1).expect("a prompt");
    let early = family.workload(&chosen, 2).expect("sound");
    assert_eq!(real.mapped, early.mapped);
    assert_eq!((real.prompt, real.shared, real.largest), (early.prompt, early.shared, early.largest));
    assert_eq!((real.vision, real.stored), (early.vision, early.stored));
    assert_eq!(real.sizes(Passes::Fused).expect("room"), early.sizes(Passes::Fused).expect("room"));
}
