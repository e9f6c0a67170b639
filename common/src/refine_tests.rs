use super::*;
use crate::run::{RunFile, parse};
use std::path::Path;

fn plan(parameters: &str) -> RunPlan {
    let text = format!(
        "name = \"t\"\nmodels = {{ base = \"b\", vlm = \"v\", sources = [{{ name = \"a\", model = \"a\" }}] }}\n\
         search = {{ evaluations = 9 }}\ndataset = {{ file = \"d\" }}\nprompt = {{ task = \"t\" }}\n[parameters]\n\
         drop_rate = 0.0\ntrim_rate = 0.0\n{parameters}\n"
    );
    let file = RunFile { name: "t", text: &text, folder: Path::new("/"), overrides: &[], metrics: &[] };
    parse(&file).unwrap_or_else(|e| panic!("{e}"))
}

fn refinement(coarse: &str, fine: &str) -> Result<Refinement, RefineError> {
    Refinement::new(&plan(coarse), &plan(fine), None)
}

fn coarse() -> Distribution {
    Distribution { mean: vec![0.25, 0.6], covariance: vec![vec![0.04, 0.012], vec![0.012, 0.01]] }
}

/// Whatever the mean of siblings was, it is: the transposed map with weights of one over their number.
#[test]
fn children_begin_together_and_keep_the_parents_distribution() {
    let r = refinement("", "weight = { layers = 4 }").unwrap();
    let fine = r.distribution(&coarse(), 1.0 / 6.0).unwrap();
    assert_eq!(fine.mean, [0.25, 0.6, 0.6, 0.6, 0.6]);
    let c = &fine.covariance;
    // As far as the ridge.
    let close = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(close(c[0][0], 0.04) && close(c[0][1], 0.012), "{c:?}");
    let sum: f64 = (1..5).flat_map(|i| (1..5).map(move |j| (i, j))).map(|(i, j)| c[i][j]).sum();
    assert!(close(sum / 16.0, 0.01), "{sum}");
    // Siblings part by as much as the parent varies: the variance of a difference is twice that.
    assert!(close(c[1][1] + c[2][2] - 2.0 * c[1][2], 0.02), "{c:?}");
}

#[test]
fn a_converged_search_keeps_its_shape_but_not_its_size() {
    let mut narrow = coarse();
    narrow.covariance.iter_mut().flatten().for_each(|x| *x *= 1e-12);
    let r = refinement("", "").unwrap();
    let fine = r.distribution(&narrow, 1.0 / 6.0).unwrap();
    let expected = (0.1f64 / 6.0).powi(2);
    assert!((fine.covariance[0][0] / expected - 1.0).abs() < 1e-6, "{fine:?}");
    assert!((fine.covariance[0][1] / expected - 0.3).abs() < 1e-6, "{fine:?}");
}

#[test]
fn knots_between_knots_are_interpolated_and_bounds_converted() {
    let r =
        refinement("scale = 1.0\nweight = { knots = 2 }", "scale = 1.0\nweight = { high = 2.0, knots = 3 }")
            .unwrap();
    assert_eq!(r.point(&[0.2, 0.8]).unwrap(), [0.1, 0.25, 0.4]);
    let e =
        refinement("scale = 1.0\nweight = { high = 2.0 }", "scale = 1.0").unwrap().point(&[0.9]).unwrap_err();
    assert_eq!(e.to_string(), "weight.a: the earlier run is at 1.8, outside of the bounds here; widen them");
}

#[test]
fn fixed_numbers_are_set_free_with_the_searchs_own_deviation() {
    let r = refinement("scale = 1.5", "").unwrap();
    let one = Distribution { mean: vec![0.5], covariance: vec![vec![0.01]] };
    let fine = r.distribution(&one, 0.2).unwrap();
    assert_eq!(fine.mean, [0.75, 0.5]);
    assert!((fine.covariance[0][0] - 0.04).abs() < 1e-9 && fine.covariance[0][1].abs() < 1e-12);
}

#[test]
fn only_what_divides_further_refines() {
    let filters = "filters = [\"attention\", \"mlp\", \"embeddings\", \"norms\"]";
    for (old, new, fits) in [
        ("layers = 4", "layers = 8", true),
        ("layers = 4", "layers = 6", false),
        ("layers = [\"0-7\", \"8-\"]", "layers = [\"0-3\", \"4-7\", \"8-\"]", true),
        ("layers = [\"0-7\", \"8-\"]", "layers = 4", false),
        ("filters = [\"attention\", \"rest\"]", filters, true),
        (filters, "filters = [\"attention\", \"rest\"]", false),
        ("filters = [\"attention\", \"rest\"]", "filters = [\"*.q_proj.*\", \"attention\", \"rest\"]", true),
        ("knots = 3", "knots = 4", false),
        ("knots = 3", "layers = 4", false),
    ] {
        let found = refinement(&format!("weight = {{ {old} }}"), &format!("weight = {{ {new} }}"));
        assert_eq!(found.is_ok(), fits, "{old} -> {new}: {found:?}");
    }
    // With the depth known, a quarter of 32 layers is eight of them.
    let (old, new) = (plan("weight = { layers = [\"0-7\", \"8-\"] }"), plan("weight = { layers = 4 }"));
    assert!(Refinement::new(&old, &new, Some(32)).is_ok());
}
