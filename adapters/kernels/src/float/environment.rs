//! How the processor has been told to round: libraries that are loaded into a process may change it for all of it.

/// A processor that does not compute as IEEE 754 says by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Environment {
    /// Numbers close to zero are taken for zero.
    #[error("this process takes numbers close to zero for zero (flush-to-zero, denormals-are-zero)")]
    FlushesToZero,
    /// Results are rounded up, down or towards zero.
    #[error("this process does not round to the nearest number")]
    RoundsElsewhere,
}

/// Whether the calling thread rounds as IEEE 754 says by default; threads it starts inherit that.
///
/// # Errors
/// [`Environment`], what is not as it ought to be.
pub fn check() -> Result<(), Environment> {
    #[cfg(target_arch = "x86_64")]
    {
        judge(mxcsr(), 0x8040, 0x6000)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let fpcr: u64;
        // SAFETY: reads a register.
        unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
        // FZ, FIZ and AH; the mode of rounding.
        judge(fpcr as u32, 1 << 24 | 1 << 1 | 1, 3 << 22)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        Ok(())
    }
}

/// The register in which flush-to-zero is bit 15, denormals-are-zero bit 6, and the mode of rounding bits 13 and 14.
#[cfg(target_arch = "x86_64")]
fn mxcsr() -> u32 {
    let mut mxcsr = 0u32;
    // SAFETY: writes the register into a variable of its size.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
    mxcsr
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn judge(register: u32, flushes: u32, rounds: u32) -> Result<(), Environment> {
    if register & flushes != 0 {
        Err(Environment::FlushesToZero)
    } else if register & rounds != 0 {
        Err(Environment::RoundsElsewhere)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_started_as_it_ought_to_be() {
        assert_eq!(check(), Ok(()));
    }

    #[cfg(target_arch = "x86_64")]
    #[test]
    fn what_a_library_may_have_set_is_seen() {
        let before = mxcsr();
        let with = |register: u32| {
            // SAFETY: reads a variable of the register's size. The thread's own register is put back below, and nothing
            // is computed in between.
            let set = |to: u32| unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &to, options(nostack)) };
            set(register);
            let found = check();
            set(before);
            found
        };
        for bit in [15, 6] {
            assert_eq!(with(before | 1 << bit), Err(Environment::FlushesToZero));
        }
        for bit in [13, 14] {
            assert_eq!(with(before | 1 << bit), Err(Environment::RoundsElsewhere));
        }
        assert_eq!(with(before), Ok(()));
    }
}
