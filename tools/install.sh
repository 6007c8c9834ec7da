#!/bin/sh
# Installs the C library: tools/install.sh FOLDER_OF_THE_BUILT_LIBRARY PREFIX. `make install` builds it first. DESTDIR goes before
# every path, as packagers expect; what is written into files is PREFIX alone.
set -eu
built=$1 prefix=$2
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
major=$(sed -n 's/^#define QWENTTS_ABI_MAJOR //p' include/qwentts.h)
root=${DESTDIR:-}$prefix
lib=$root/lib
mkdir -p "$root/include" "$lib/pkgconfig" "$lib/cmake/qwentts"

install -m 644 include/qwentts.h "$root/include/qwentts.h"
install -m 644 ffi_examples/cpp/qwentts.hpp "$root/include/qwentts.hpp"
install -m 755 "$built/libqwentts.so" "$lib/libqwentts.so.$version"
install -m 644 "$built/libqwentts.a" "$lib/libqwentts.a"
# Line tables are half of either; who debugs links what cargo made.
if command -v strip > /dev/null; then
    strip --strip-debug "$lib/libqwentts.so.$version" "$lib/libqwentts.a"
fi
# As cargo makes it, the archive shows all that is in it, Rust's runtime and a C library among that, which another archive may
# have, too. One object of what the ABI needs, with no other name to be seen, meets nobody.
if [ "$(uname -s)" = Linux ] && command -v ld > /dev/null && command -v objcopy > /dev/null && command -v ar > /dev/null; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    sed -n 's/.*[ *]\(qwentts_[a-z_]*\)(.*/\1/p' include/qwentts.h | sort -u > "$work/names"
    # shellcheck disable=SC2046 # a word each
    ld -r --force-group-allocation $(sed 's/^/-u /' "$work/names") "$lib/libqwentts.a" -o "$work/qwentts.o"
    # What rustc keeps for its own linking is of no use here, and ar would have it read by a plugin of another LLVM.
    objcopy --keep-global-symbols="$work/names" -R .llvmbc -R .llvmcmd "$work/qwentts.o"
    rm "$lib/libqwentts.a"
    ar rcs "$lib/libqwentts.a" "$work/qwentts.o"
    chmod 644 "$lib/libqwentts.a"
else
    echo "no ld, objcopy and ar: libqwentts.a shows more names than qwentts.h has" >&2
fi
ln -sf "libqwentts.so.$version" "$lib/libqwentts.so.$major"
ln -sf "libqwentts.so.$major" "$lib/libqwentts.so"

cat > "$lib/pkgconfig/qwentts.pc" << PC
prefix=$prefix
includedir=\${prefix}/include
libdir=\${prefix}/lib

Name: qwentts
Description: Text to speech with the Qwen3-TTS 12 Hz models
Version: $version
Cflags: -I\${includedir}
Libs: -L\${libdir} -lqwentts
Libs.private: -lgcc_s -lpthread -ldl -lm
PC

# Wherever the prefix is moved to, it is found from this file.
cat > "$lib/cmake/qwentts/qwentts-config.cmake" << CMAKE
get_filename_component(_qwentts_prefix "\${CMAKE_CURRENT_LIST_DIR}/../../.." ABSOLUTE)
if(NOT TARGET qwentts::qwentts)
  add_library(qwentts::qwentts SHARED IMPORTED)
  set_target_properties(qwentts::qwentts PROPERTIES
    IMPORTED_LOCATION "\${_qwentts_prefix}/lib/libqwentts.so.$version"
    IMPORTED_SONAME "libqwentts.so.$major"
    INTERFACE_INCLUDE_DIRECTORIES "\${_qwentts_prefix}/include")
  add_library(qwentts::static STATIC IMPORTED)
  set_target_properties(qwentts::static PROPERTIES
    IMPORTED_LOCATION "\${_qwentts_prefix}/lib/libqwentts.a"
    INTERFACE_INCLUDE_DIRECTORIES "\${_qwentts_prefix}/include"
    INTERFACE_LINK_LIBRARIES "gcc_s;pthread;dl;m")
endif()
unset(_qwentts_prefix)
CMAKE

# Before 1.0 a new minor version may break what was.
cat > "$lib/cmake/qwentts/qwentts-config-version.cmake" << CMAKE
set(PACKAGE_VERSION "$version")
if(PACKAGE_FIND_VERSION VERSION_GREATER PACKAGE_VERSION
   OR NOT "${version%.*}" STREQUAL "\${PACKAGE_FIND_VERSION_MAJOR}.\${PACKAGE_FIND_VERSION_MINOR}")
  set(PACKAGE_VERSION_COMPATIBLE FALSE)
else()
  set(PACKAGE_VERSION_COMPATIBLE TRUE)
  if(PACKAGE_FIND_VERSION VERSION_EQUAL PACKAGE_VERSION)
    set(PACKAGE_VERSION_EXACT TRUE)
  endif()
endif()
CMAKE
echo "installed libqwentts $version, ABI $major, to $root"
