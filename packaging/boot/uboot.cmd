# evsed: boot script of U-Boot for two slots. Pairs with agent/firmware/selectors/uboot.py.
#
#   mkimage -A arm64 -T script -C none -d uboot.cmd boot.scr
#
# Reads BOOT_ORDER ("B A": by preference) and, for each slot, BOOT_x_GOOD (1: proved itself, never counted) and
# BOOT_x_LEFT (0 to 9: tries left). A slot that is not good loses a try before each start, and is not started where that
# cannot be saved. A boot of a good slot saves nothing. A slot whose kernel cannot be loaded gives way to the next one.
# With nothing left to start, the slots of BOOT_ORDER get three tries back and the board resets; it never stops here.
# A slot that is not in BOOT_ORDER is never started: its content may be half written.

# ---- to be adapted to the board: how to start a slot. These return only where that failed.

setenv evsed_load 'load mmc 0:${evsed_part} ${kernel_addr_r} boot/Image && load mmc 0:${evsed_part} ${fdt_addr_r} boot/${fdtfile}'
setenv evsed_boot_a 'setenv evsed_part 5; setenv bootargs ${evsed_args} root=/dev/mmcblk0p5 evsed.slot=a; run evsed_load && booti ${kernel_addr_r} - ${fdt_addr_r}'
setenv evsed_boot_b 'setenv evsed_part 6; setenv bootargs ${evsed_args} root=/dev/mmcblk0p6 evsed.slot=b; run evsed_load && booti ${kernel_addr_r} - ${fdt_addr_r}'

# ---- from here on it is the same on every board

test -n "${BOOT_A_LEFT}" || setenv BOOT_A_LEFT 3
test -n "${BOOT_B_LEFT}" || setenv BOOT_B_LEFT 3

# An order without a slot of ours is none: the good slot first.
known=no
for slot in ${BOOT_ORDER}; do
  if test "x${slot}" = xA; then known=yes; fi
  if test "x${slot}" = xB; then known=yes; fi
done
if test "x${known}" = xno; then
  setenv BOOT_ORDER "A B"
  if test "x${BOOT_A_GOOD}" != x1; then
    if test "x${BOOT_B_GOOD}" = x1; then setenv BOOT_ORDER "B A"; fi
  fi
fi

for slot in ${BOOT_ORDER}; do
  if test "x${slot}" = xA; then
    if test "x${BOOT_A_GOOD}" = x1; then
      echo "evsed: starting the good slot a"
      run evsed_boot_a
    elif test ${BOOT_A_LEFT} -gt 0; then
      setexpr BOOT_A_LEFT ${BOOT_A_LEFT} - 1
      echo "evsed: trying slot a, ${BOOT_A_LEFT} tries left"
      if saveenv; then run evsed_boot_a; fi
    fi
  fi
  if test "x${slot}" = xB; then
    if test "x${BOOT_B_GOOD}" = x1; then
      echo "evsed: starting the good slot b"
      run evsed_boot_b
    elif test ${BOOT_B_LEFT} -gt 0; then
      setexpr BOOT_B_LEFT ${BOOT_B_LEFT} - 1
      echo "evsed: trying slot b, ${BOOT_B_LEFT} tries left"
      if saveenv; then run evsed_boot_b; fi
    fi
  fi
done

echo "evsed: no slot can be started; all get their tries back"
for slot in ${BOOT_ORDER}; do
  if test "x${slot}" = xA; then setenv BOOT_A_LEFT 3; fi
  if test "x${slot}" = xB; then setenv BOOT_B_LEFT 3; fi
done
saveenv
reset
