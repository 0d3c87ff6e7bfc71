"""Boot selectors: how the boot loader of this device is told which slot to start.

Charter: one module per boot loader, each an ``agent.firmware.ports.BootSelector``. ``file`` is for development,
``tryboot`` for the Raspberry Pi, ``uboot`` for a redundant U-Boot environment, ``sdboot`` for systemd-boot on EFI.
What the boot loaders themselves do at boot is in ``packaging/boot``; models of them for tests and the demo are in
``agent.sim.bootloaders``. Why each is written as it is: docs/adr/0016-boot-selectors.md.
"""
