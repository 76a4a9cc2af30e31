//! Tests of the executable, over evidence that the tests make.

#[cfg(test)]
mod erasure;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod holds;
#[cfg(test)]
mod live;
#[cfg(test)]
mod look;
#[cfg(test)]
mod play;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod run;
#[cfg(test)]
mod sealed;
#[cfg(test)]
mod signed;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod writer;
