#!/bin/bash
# fetch-kernel.sh FOLDER: unpacks Debian's newest 6.1 cloud kernel that has debug symbols into FOLDER/RELEASE:
# vmlinuz, vmlinux (the symbols, about 600 MB), qemu_fw_cfg.ko, and modules/ with those that guests of the triage
# tests load. Does nothing when that release is there.
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
modules=(
  drivers/misc/pvpanic/pvpanic drivers/misc/pvpanic/pvpanic-mmio drivers/misc/pvpanic/pvpanic-pci
  fs/pstore/ramoops lib/reed_solomon/reed_solomon drivers/firmware/efi/efi-pstore drivers/acpi/button
)

release=
for package in $(apt-cache pkgnames linux-image-6.1. | grep -e '-cloud-amd64-dbg$' | sort -rV); do
  candidate=${package#linux-image-}
  candidate=${candidate%-dbg}
  # A -dbg package may outlive its kernel, or precede the signed one.
  if [ -n "$(apt-cache madison "linux-image-$candidate")" ] && [ -n "$(apt-cache madison "$package")" ]; then
    release=$candidate
    break
  fi
done
[ -n "$release" ] || { echo "fetch-kernel: no 6.1 cloud kernel with debug symbols among the package lists" >&2; exit 1; }
[ ! -f "$folder/$release/vmlinux" ] || [ ! -d "$folder/$release/modules" ] || exit 0

work=$(mktemp -d "$folder/unpack.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

# fetch PACKAGE
fetch() { apt-get -qq -o APT::Sandbox::User=root download "$1"; }
# member DEB PATH OUT: one file out of a package, without unpacking the rest of it.
member() {
  # tar stops reading at the file, dpkg-deb then dies of SIGPIPE: only tar's verdict counts.
  { dpkg-deb --fsys-tarfile "$1" 2>/dev/null || true; } | tar -xO --occurrence=1 -f - "./$2" >"$3"
  [ -s "$3" ]
}
mkdir -p out
fetch "linux-image-$release"
if [ ! -f "$folder/$release/vmlinux" ]; then
  fetch "linux-image-$release-dbg"
  member linux-image-"$release"_*.deb "boot/vmlinuz-$release" out/vmlinuz
  member linux-image-"$release"_*.deb "lib/modules/$release/kernel/drivers/firmware/qemu_fw_cfg.ko" out/qemu_fw_cfg.ko
  member linux-image-"$release-dbg"_*.deb "usr/lib/debug/boot/vmlinux-$release" out/vmlinux
  mv out "$folder/$release"
fi
mkdir modules
members=("${modules[@]/#/./lib/modules/$release/kernel/}")
dpkg-deb --fsys-tarfile linux-image-"$release"_*.deb |
  tar -x --transform 's,.*/,,' -C modules -f - "${members[@]/%/.ko}"
mv modules "$folder/$release/"
