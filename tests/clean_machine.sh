# shellcheck shell=bash
# Chroots in which nothing is installed, for `./dev clean-test` and `./dev fresh`; `dev` reads this file, and has
# what it uses: say, die, step, apt_install, and $cache and $log.

make_base() { # SUITE TARBALL: the base system alone, without package lists, as container images are
    local suite=$1 tarball=$2 here mirror root
    command -v debootstrap >/dev/null || apt_install debootstrap
    here=$(own_suite)
    # shellcheck disable=SC2016 # apt expands it
    mirror=$(apt-get indextargets --format '$(RELEASE) $(REPO_URI)' 'Created-By: Packages' |
        awk -v suite="$here" '$1 == suite && !found { print $2; found = 1 }')
    [ -n "$mirror" ] || die "apt has no source for $here" "see /etc/apt/sources.list.d"
    root=$(mktemp -d "$cache/base.XXXXXX")
    chmod 755 "$root"
    # shellcheck disable=SC2064 # this very folder, also when the variable is gone
    trap "rm -rf --one-file-system '$root'" EXIT
    step "debootstrap of $suite, kept for the next time" "read $log" \
        timeout -k 5 1800 unshare --mount --pid --fork --kill-child \
        debootstrap --variant=minbase "$suite" "$root" "$mirror"
    rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
    tar -C "$root" -cf "$tarball.new" .
    mv "$tarball.new" "$tarball"
    rm -rf --one-file-system "$root"
}

own_suite() { # this system's
    # shellcheck disable=SC1091 # every Debian and Ubuntu has it
    . /etc/os-release && echo "$VERSION_CODENAME"
}

retarget_sources() { # ROOT FROM TO: apt's sources for another release; those of others than the distribution go
    local root=$1 from=$2 to=$3 file
    for file in "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*.list; do
        [ ! -e "$file" ] || sed -i -nE "s/^(deb(-src)?( \\[[^]]*\\])? +[^ ]+ +)$from/\\1$to/p" "$file"
    done
    for file in "$root"/etc/apt/sources.list.d/*.sources; do # stanzas with empty lines between them
        [ ! -e "$file" ] || { awk -v RS= -v ORS='\n\n' -v from="$from" -v to="$to" \
            '$0 ~ "Suites:[ \t]*" from { gsub(from, to); print }' "$file" >"$file.new" &&
            mv "$file.new" "$file"; }
    done
}

lend_package_sources() { # ROOT SUITE: how this machine reaches packages, and nothing else of it
    local root=$1 suite=$2 path
    for path in /etc/apt /etc/pip.conf /etc/resolv.conf /etc/hosts /etc/ssl/certs/ca-certificates.crt \
        /usr/share/keyrings /usr/local/share/ca-certificates ~/.config/pip ${PIP_CONFIG_FILE:+"$PIP_CONFIG_FILE"}; do
        [ ! -e "$path" ] || cp -rL --parents "$path" "$root"
    done
    rm -f "$root/etc/apt/sources.list" # debootstrap's own
    [ ! -e /etc/apt/sources.list ] || cp /etc/apt/sources.list "$root/etc/apt/"
    [ "$suite" = "$(own_suite)" ] || retarget_sources "$root" "$(own_suite)" "$suite"
    while IFS= read -r -d '' path; do
        case ${path%%=*} in
        PIP_FIND_LINKS | PIP_CACHE_DIR) ;; # folders of this machine
        PIP_* | *_proxy | *_PROXY | SSL_CERT_* | REQUESTS_CA_BUNDLE) lent+=("$path") ;;
        esac
    done < <(env -0)
}

find_base() { # SUITE: sets base; whoever comes at the same time waits
    local suite=$1
    base=$cache/base-$suite.tar
    mkdir -p "$cache"
    (
        flock 9
        [ -f "$base" ] || make_base "$suite" "$base"
    ) 9>"$cache/base.lock"
}

unpack_base() { # FOLDER SUITE
    step "a clean $2" "remove $base, and it is made again" tar -C "$1" -xf "$base"
    lend_package_sources "$1" "$2"
}

fresh() { # FOLDER: for tests of what is installed on a machine that has nothing
    [ "$(id -u)" = 0 ] || die "a fresh system belongs to root" "sudo ./dev fresh $1"
    local suite base lent=()
    suite=$(own_suite)
    find_base "$suite"
    mkdir -p "$1"
    unpack_base "$1" "$suite"
}

clean_test() {
    [ "$(id -u)" = 0 ] || die "clean-test makes a chroot, and needs root for it" "sudo ./dev clean-test"
    local suite base root command child begin limit=${CLEAN_TEST_LIMIT:-5400} lent=()
    suite=$(own_suite)
    if [ "${1:-}" = --suite ]; then
        suite=${2:?the name of a release, such as trixie}
        shift 2
    fi
    find_base "$suite"
    root=$(mktemp -d "$cache/clean.XXXXXX")
    # shellcheck disable=SC2064 # as above
    trap "rm -rf --one-file-system '$root'" EXIT
    unpack_base "$root" "$suite"
    git clone -q --no-hardlinks . "$root/srv/checkout"
    install -D -m 644 -t "$root/srv/checkout/.cache" "$base" # what tests begin with; made once is enough
    say "commit $(git rev-parse --short HEAD); what is not committed is not tested"
    [ $# -gt 0 ] || set -- demo test
    for command in "$@"; do
        say "clean $suite: ./dev $command"
        begin=$SECONDS
        # All mounts are made in a namespace of their own, and go with its last process. unshare ignores
        # SIGTERM while its child lives; killed 5 s later, it takes every process of the namespace along.
        # shellcheck disable=SC2016,SC2086 # the inner shell expands it; a command may have arguments
        timeout -k 5 "$limit" unshare --mount --pid --fork --kill-child sh -euc '
            mount --bind "$0" "$0" # a root that is a mount may have namespaces of its own inside
            mount -t proc proc "$0/proc"
            mount --rbind /sys "$0/sys"
            mount --rbind /dev "$0/dev"
            chroot "$0" env -i -C /srv/checkout "$@" && exit 0
            exit 1
        ' "$root" "${lent[@]}" HOME=/root LANG=C.UTF-8 CI=true \
            PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ./dev $command </dev/null &
        child=$!
        trap 'kill "$child"; wait "$child" || true; exit 130' INT TERM HUP
        wait "$child" || die "./dev $command failed in a clean $suite after $((SECONDS - begin)) s" \
            "the limit is $limit s; CLEAN_TEST_LIMIT sets another"
        trap - INT TERM HUP
        say "clean $suite: ./dev $command passed in $((SECONDS - begin)) s"
    done
}
