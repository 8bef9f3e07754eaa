//! Line charts as SVG.
//!
//! A [`Chart`] has two axes and named series of points. The picture has a background of its own, so
//! it can be read on a white page and on a dark one; series differ in colour and in dashes.
//!
//! | file | decides |
//! |---|---|
//! | `chart` | what is drawn where |
//! | `scale` | which part of an axis is shown, where its ticks are, and how a value is written |

mod chart;
mod scale;

pub use chart::{Axis, Chart, PlotError, Scale, Series, Unit};
