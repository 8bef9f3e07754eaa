//! The macro that makes a library a filter, and what it expands to.

/// Makes the crate's library a filter that nbdkit can load. Once per library, which must be of
/// crate type `cdylib`.
///
/// ```no_run
/// struct Plain;
///
/// impl nbdkit_filter::Filter for Plain {
///     const NAME: &'static std::ffi::CStr = c"plain";
///     type Connection = ();
///
///     fn load() -> nbdkit_filter::Result<Self> {
///         Ok(Self)
///     }
///
///     fn open(&self, _: &mut nbdkit_filter::OpenRequest<'_>) -> nbdkit_filter::Result<()> {
///         Ok(())
///     }
/// }
///
/// nbdkit_filter::register!(Plain);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! register {
    ($filter:ty) => {
        const _: () = {
            static INSTANCE: $crate::private::Instance<$filter> = $crate::private::Instance::new();

            impl $crate::private::Registered for $filter {
                fn instance() -> &'static $crate::private::Instance<Self> {
                    &INSTANCE
                }
            }

            static MARK: $crate::private::Mark =
                $crate::private::Mark::new(<$filter as $crate::Filter>::NAME);

            /// Where other filters find the mark.
            #[allow(unsafe_code, non_upper_case_globals)]
            #[unsafe(no_mangle)]
            static nbdkit_filter_mark: &$crate::private::Mark = &MARK;

            /// What nbdkit calls after it has loaded the library.
            #[allow(unsafe_code)]
            #[unsafe(no_mangle)]
            extern "C" fn filter_init() -> *const ::std::ffi::c_void {
                $crate::private::initialise::<$filter>(&MARK)
            }
        };
    };
}

/// What [`register!`](crate::register) needs and nobody else does.
pub mod private {
    use std::ffi::c_void;
    use std::ptr;

    pub use crate::instance::Instance;
    pub use crate::twice::Mark;

    use crate::version::{Support, Version};
    use crate::{Filter, api, callbacks, log, resident};

    /// A filter with a place for its instance.
    pub trait Registered: Filter {
        /// Its place.
        fn instance() -> &'static Instance<Self>;
    }

    /// Fills the C structure, or says why not and returns NULL, which ends nbdkit.
    pub fn initialise<F: Registered>(mark: &'static Mark) -> *const c_void {
        match callbacks::caught("filter_init", || prepare::<F>(mark)) {
            Ok(structure) => structure,
            Err(error) => {
                log::failure(&error);
                ptr::null()
            }
        }
    }

    fn prepare<F: Registered>(mark: &'static Mark) -> crate::Result<*const c_void> {
        resident::keep_loaded(ptr::from_ref(mark).cast());
        let name = F::NAME.to_string_lossy();
        if let Err(symbol) = api::connect() {
            return Err(crate::Error::invalid(format!(
                "filter {name}: this nbdkit has no function {}; 1.30 or newer is needed",
                symbol.to_string_lossy()
            )));
        }
        if !mark.take() {
            return Err(crate::Error::invalid(format!(
                "filter {name} can be in the chain only once"
            )));
        }
        let Some(version) = Version::running() else {
            return Err(crate::Error::invalid(format!(
                "filter {name}: cannot find out which version of nbdkit this is"
            )));
        };
        let shown = version.text().to_string_lossy();
        match version.support() {
            Support::Known => log::debug(&format!("{name}: this is nbdkit {shown}")),
            Support::Newer => log::error(&format!(
                "warning: filter {name}: nbdkit {shown} is newer than what it was tested with"
            )),
            Support::Refused => {
                return Err(crate::Error::invalid(format!(
                    "filter {name}: nbdkit {shown} is not supported, 1.30 or newer is needed"
                )));
            }
        }
        Ok(callbacks::members::<F>(&version).lay_out(&version))
    }
}
