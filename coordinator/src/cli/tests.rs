use super::*;

#[test]
fn the_command_line_is_well_formed() {
    use clap::CommandFactory;
    Cli::command().debug_assert();
}

#[test]
fn a_target_is_a_folder_or_a_coordinator_not_both() {
    let parse = |args: &[&str]| Cli::try_parse_from([&["jradievo"], args].concat()).is_ok();
    assert!(parse(&["status", "dir", "--json"]));
    assert!(parse(&["status", "--coordinator", "http://127.0.0.1:1"]));
    assert!(!parse(&["status"]));
    assert!(!parse(&["status", "dir", "--coordinator", "http://127.0.0.1:1"]));
    assert!(!parse(&["reports", "dir"]));
    assert!(parse(&["start", "run.toml", "--state", "d", "--set", "a.b=1", "--set", "c=2"]));
}
