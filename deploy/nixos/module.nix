# `services.reconciler`: the units are those of deploy/systemd, as the package has them, with the same
# hardening.
{
  config,
  lib,
  pkgs,
  ...
}:

let
  cfg = config.services.reconciler;
  toml = pkgs.formats.toml { };

  sources = pkgs.writeText "reconciler-apt.list" ''
    deb [signed-by=${cfg.debian.keyring}] ${cfg.debian.mirror} ${cfg.debian.release} main
  '';
  # Apt as the daemon uses it: nothing of this host but these sources.
  apt = pkgs.writeText "reconciler-apt.conf" ''
    APT::Sandbox::User "root";
    APT::Architecture "amd64";
    Dir::State::Lists "/var/cache/reconciler/apt/lists";
    Dir::State::status "/dev/null";
    Dir::Cache "/var/cache/reconciler/apt";
    Dir::Log "/dev/null";
    Dir::Etc::main "/dev/null";
    Dir::Etc::sourcelist "${sources}";
    Dir::Etc::sourceparts "/dev/null";
    Dir::Etc::trustedparts "/dev/null";
  '';

  option =
    type: default: description:
    lib.mkOption { inherit type default description; };
  inherit (lib) types;
in
{
  options.services.reconciler = {
    enable = lib.mkEnableOption "the reconciler, which keeps microVMs equal to what a git repository says";

    package = lib.mkOption {
      type = types.package;
      default = pkgs.callPackage ./package.nix { };
      defaultText = lib.literalExpression "pkgs.callPackage ./package.nix { }";
      description = "The program, with its units.";
    };

    credentials = lib.mkOption {
      type = types.attrsOf types.str;
      default = { };
      example = lib.literalExpression ''{ deploy_key = "/etc/keys/deploy_key"; }'';
      description = ''
        Files that systemd passes to the daemon, by their names: a key `deploy_key` is
        `/run/credentials/reconciler.service/deploy_key` in `settings`. Paths of the host, not of the
        store, which every user can read.
      '';
    };

    members = option (types.listOf types.str) [ ] ''
      Users who may run the commands, and so can do everything that these can.
    '';

    debian = {
      keyring = lib.mkOption {
        type = types.path;
        example = "/etc/debian-archive-keyring.gpg";
        description = ''
          The public keys that sign Debian's archive. Kernel and busybox of the guests come from there.
        '';
      };
      mirror = lib.mkOption {
        type = types.str;
        example = "http://mirror.example.org/debian";
        description = "Where packages come from: a mirror near to you.";
      };
      release = option types.str "bookworm" "The release of Debian whose kernel guests run.";
    };

    settings = lib.mkOption {
      default = { };
      description = ''
        `/etc/reconciler/config.toml`. Every key of `docs/operations/config.md` is allowed here; the usual ones
        have a type of their own.
      '';
      type = types.submodule {
        freeformType = toml.type;
        options = {
          supervisor = option (types.enum [
            "systemd"
            "local"
          ]) "systemd" "What runs guests: units of systemd, or plain processes of the daemon's user.";

          source = {
            url = lib.mkOption {
              type = types.str;
              example = "git@git.example.org:fleet.git";
              description = "The repository that declares what runs: a path, `file://`, `https://` or ssh.";
            };
            branch = option types.str "" "Empty: the remote's HEAD.";
            path = option types.str "" "The folder that holds manifests; empty: all of the repository.";
            poll_interval = option types.number 60.0 "Seconds between polls of a remote.";
            prune = option types.bool false "Whether VMs that left the repository are stopped and removed.";
            max_delete = option types.ints.unsigned 1 "The most VMs that one change removes.";
            ssh_key = option types.str "" "Path of a private key without passphrase; see `credentials`.";
            known_hosts = option types.str "" "Path of the file with the ssh servers' keys.";
          };

          http = {
            address = option types.str "127.0.0.1" "Address of metrics, health and the page, which require a token.";
            port = option types.port 9188 "0: any free one.";
            names = option (types.listOf types.str) [ ] "Names under which clients reach it, besides the host's own.";
          };

          qemu.accel = option (types.enum [
            "auto"
            "kvm"
            "tcg"
          ]) "auto" "KVM if a test guest runs on it, or always the one named.";

          policy = {
            runners = option types.bool false ''
              Whether a manifest may be a guest of microvm.nix, or another runner that Nix builds from a flake of
              the repository. Builds and runners are programs of the repository that run on this host.
            '';
            flakes = option (types.listOf types.str) [ ] ''
              Patterns of flakes outside of the repository that may be named too, locked: `github:acme/*`.
            '';
            max_memory_mib = option types.ints.positive 65536 "The most memory of one VM.";
            max_vcpu = option types.ints.positive 64 "The most CPUs of one VM.";
            max_volume_gib = option types.ints.positive 1024 "The largest volume.";
            forward_addresses = option (types.listOf types.str) [
              "127.0.0.1"
            ] "Addresses of the host on which a forward may listen.";
            min_forward_port = option types.port 1024 "The lowest port of the host that a forward may take.";
            bridges = option (types.listOf types.str) [ ] "Bridges of the host into which a tap may be plugged.";
            memory_reserve_mib = option types.ints.unsigned 512 "Memory that starting a guest must leave.";
            disk_reserve_mib =
              option types.ints.unsigned 1024
                "Free space below which nothing is built or started.";
          };

          kernels.debian.version = option types.str "" ''
            The exact version of the kernel's package; empty: the newest when it is first needed.
          '';
        };
      };
    };
  };

  config = lib.mkIf cfg.enable {
    environment.systemPackages = [ cfg.package ];
    environment.etc."reconciler/config.toml".source = toml.generate "reconciler.toml" cfg.settings;
    environment.etc."reconciler/apt.conf".source = apt;

    users.groups.microvm = { };
    users.groups.reconciler-front = { };
    users.users.reconciler-front = {
      isSystemUser = true;
      group = "reconciler-front";
    };
    users.groups.reconciler.members = cfg.members;

    systemd.packages = [ cfg.package ];
    systemd.tmpfiles.packages = [ cfg.package ];
    systemd.sockets.reconciler.wantedBy = [ "sockets.target" ];
    systemd.services.reconciler = {
      wantedBy = [ "multi-user.target" ];
      restartTriggers = [
        config.environment.etc."reconciler/config.toml".source
        apt
      ];
      # A runner is built by this host's Nix daemon: the cage of ours cannot write to the store.
      path = lib.optional cfg.settings.policy.runners config.nix.package;
      environment = lib.optionalAttrs cfg.settings.policy.runners { NIX_REMOTE = "daemon"; };
      serviceConfig.LoadCredential = lib.mapAttrsToList (name: file: "${name}:${file}") cfg.credentials;
    };
  };
}
