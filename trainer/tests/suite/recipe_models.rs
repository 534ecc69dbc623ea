//! Every built-in recipe names a registered model by its main name.

use efficienttrain_models::{ModelOptions, create_model};
use efficienttrain_schedule::Recipe;

#[test]
fn every_recipe_has_a_model_of_that_name() {
    for name in Recipe::names() {
        let recipe = Recipe::named(&name).unwrap();
        for stage in &recipe.curriculum.stages {
            let size = stage.size as usize;
            let options = ModelOptions { input_size: [size, size], ..ModelOptions::default() };
            let model = create_model(&recipe.model, &options).unwrap();
            assert_eq!(model.name(), recipe.model, "{name}");
        }
        let by_reference = create_model(&recipe.reference_model, &ModelOptions::default()).unwrap();
        assert_eq!(by_reference.name(), recipe.model, "{name}: {}", recipe.reference_model);
    }
}
