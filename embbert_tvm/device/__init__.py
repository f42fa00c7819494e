"""Run a package somewhere: on this machine, in QEMU. One interface (`open_place`), one protocol."""
