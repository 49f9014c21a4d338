#!/usr/bin/env bash
# Installs the reconciler on a host with systemd that has no package of it: `sudo deploy/install.sh`.
# Run it again to upgrade; guests are not affected, and the config stays as it is.
#
#   --remove      uninstall it; guests keep running, data and config stay
#   --files DIR   lay out the files under DIR and do nothing else; packages are made from that
set -euo pipefail
cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.."

python=${PYTHON:-python3}
version=${VERSION:-$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)}
needs="flock kill qemu-system-x86_64 mkfs.erofs mkfs.ext4 lz4 zstd"
units="reconciler.service reconciler.socket reconciler-http.socket reconciler-front.service reconciler-front.socket reconciler-build@.service reconciler-build.socket microvms.slice"
umask 022

die() { # MESSAGE HINT
    printf 'install.sh: %s\n  hint: %s\n' "$1" "$2" >&2
    exit 1
}

put() { # MODE SOURCE FOLDER
    install -D -m "$1" -t "$root/$3" "$2"
}

libraries() { # the locked wheels, and our code beside them
    local site=$root/usr/lib/reconciler/python lock
    lock=$(mktemp)
    rm -rf "$site"
    install -d "$site"
    python3 deploy/closure.py >"$lock"
    "$python" -m pip --disable-pip-version-check -q install --no-deps --require-hashes --only-binary :all: --no-compile \
        --target "$site" -r "$lock"
    rm -rf "$lock" "${site:?}/bin" "$site"/*.dist-info/RECORD
    tar -c --exclude=__pycache__ --sort=name reconciler | tar -x --no-same-owner -C "$site"
    install -d "$site/microvm_reconciler-$version.dist-info"
    printf 'Metadata-Version: 2.1\nName: microvm-reconciler\nVersion: %s\n' "$version" \
        >"$site/microvm_reconciler-$version.dist-info/METADATA"
    # By content: modification times differ from build to build. In one process and one order: which constants a
    # .pyc file shares depends on what the process compiled before.
    PYTHONHASHSEED=0 "$python" -m compileall -q --invalidation-mode unchecked-hash -s "$root" "$site"
}

words() { # WHAT [SHELL]: from the command line as it was just installed
    PYTHONPATH=$root/usr/lib/reconciler/python PYTHONDONTWRITEBYTECODE=1 "$python" deploy/words.py "$@"
}

files() {
    local unit page
    put 755 deploy/libexec/reconciler usr/bin
    put 644 deploy/libexec/apt.conf usr/lib/reconciler
    put 755 deploy/libexec/ensure-front-socket usr/lib/reconciler
    put 755 deploy/libexec/build-debian usr/lib/reconciler
    for unit in $units; do put 644 "deploy/systemd/$unit" usr/lib/systemd/system; done
    put 644 deploy/sysusers.d/reconciler.conf usr/lib/sysusers.d
    put 644 deploy/tmpfiles.d/reconciler.conf usr/lib/tmpfiles.d
    [ -e "$root/etc/reconciler/config.toml" ] || put 640 deploy/config/config.toml etc/reconciler
    install -d -m 700 "$root/etc/reconciler/credentials"
    install -d "$root"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d,man/man1}
    words completion bash >"$root/usr/share/bash-completion/completions/reconciler"
    words completion zsh >"$root/usr/share/zsh/vendor-completions/_reconciler"
    words completion fish >"$root/usr/share/fish/vendor_completions.d/reconciler.fish"
    words manual | gzip -9n >"$root/usr/share/man/man1/reconciler.1.gz"
    put 644 manifests/schema.json usr/share/reconciler
    put 644 deploy/systemd/bridges.conf usr/share/reconciler
    put 644 deploy/nftables/guests.nft usr/share/reconciler
    for page in docs/*.md README.md CHANGELOG.md LICENSE; do put 644 "$page" usr/share/doc/reconciler; done
    for page in docs/operations/*.md; do put 644 "$page" usr/share/doc/reconciler/operations; done
}

interpreter() { # the one that the libraries fit
    sed -i "s#/usr/bin/python3#$(command -v "$python")#" /usr/bin/reconciler /usr/lib/reconciler/build-debian
}

may_install() {
    local program
    [ "$(id -u)" = 0 ] || die "this needs root" "sudo deploy/install.sh"
    [ -d /run/systemd/system ] || die "systemd does not run here" "docs/operations/getting-started.md says how to run it by hand"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        die "Python 3.11 or newer is needed" "PYTHON=python3.12 deploy/install.sh uses another"
    "$python" -m pip --version >/dev/null 2>&1 || die "pip is missing" "install your distribution's python3-pip"
    for program in $needs; do
        command -v "$program" >/dev/null || die "$program is missing" "install it with your distribution's packages"
    done
    if command -v dpkg-query >/dev/null && dpkg-query -W reconciler >/dev/null 2>&1; then
        die "the Debian package is installed" "upgrade that, or apt remove reconciler first"
    fi
}

go() {
    systemd-sysusers reconciler.conf
    systemd-tmpfiles --create reconciler.conf
    systemctl daemon-reload
    /usr/lib/reconciler/ensure-front-socket
    systemctl enable --quiet reconciler.socket reconciler.service
    systemctl start microvms.slice reconciler.socket
    systemctl restart reconciler.service
    echo "the daemon runs; its settings are in /etc/reconciler/config.toml"
    reconciler doctor || true # building the guests' kernel and busybox needs apt and dpkg on any distribution
}

remove() {
    [ "$(id -u)" = 0 ] || die "this needs root" "sudo deploy/install.sh --remove"
    systemctl disable --quiet --now reconciler-http.socket reconciler-build.socket reconciler.socket reconciler.service || true
    local unit
    for unit in $units; do rm -f "/usr/lib/systemd/system/$unit"; done
    rm -rf /usr/lib/reconciler /usr/share/doc/reconciler /usr/share/reconciler
    rm -f /usr/bin/reconciler /usr/lib/sysusers.d/reconciler.conf /usr/lib/tmpfiles.d/reconciler.conf \
        /usr/share/bash-completion/completions/reconciler /usr/share/man/man1/reconciler.1.gz
    systemctl daemon-reload
    echo "guests keep running; /var/lib/reconciler and /etc/reconciler are kept"
}

case ${1:-} in
'')
    root=''
    may_install
    libraries
    files
    interpreter
    go
    ;;
--files)
    root=${2:?a folder}
    libraries
    files
    ;;
--remove) remove ;;
*) die "no such option: $1" "read the first lines of this script" ;;
esac
