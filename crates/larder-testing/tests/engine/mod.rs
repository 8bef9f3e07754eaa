//! Makes the engine for a case of the model test.

use std::sync::Arc;

use larder::{Cache, CacheFile, Clock, Error, Log};
use larder_testing::model::Case;
use larder_testing::subject::{Larder, Subject};

pub(crate) fn build(
    case: &Case,
    file: Box<dyn CacheFile>,
    clock: Arc<dyn Clock>,
    log: Arc<dyn Log>,
) -> Result<Box<dyn Subject>, Error> {
    let cache = Cache::new(case.config.clone(), file, clock, log)?;
    let volume = cache.volume("volume");
    Ok(Box::new(Larder { cache, volume }))
}
