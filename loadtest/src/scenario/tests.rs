use super::*;

#[test]
fn every_built_in_scenario_and_the_example_can_be_played() {
    for (name, text) in BUILT_IN {
        let plan = read(text, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(plan.name, name);
    }
    read(EXAMPLE, "example.toml").unwrap_or_else(|error| panic!("{error}"));
}
