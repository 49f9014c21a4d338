# The program with nixpkgs' libraries, what it starts on its PATH, and the units that the Debian package has.
{
  lib,
  python3Packages,
  installShellFiles,
  apt,
  coreutils,
  dpkg,
  e2fsprogs,
  erofs-utils,
  lz4,
  openssh,
  qemu,
  squashfsTools,
  util-linux,
  zstd,
}:

let
  root = ../..;
  project = (lib.importTOML (root + "/pyproject.toml")).project;
in
python3Packages.buildPythonApplication {
  pname = project.name;
  inherit (project) version;
  pyproject = true;
  src = root;

  build-system = [ python3Packages.hatchling ];
  dependencies = with python3Packages; [
    aiohttp
    click
    cronsim
    dbus-fast
    jinja2
    markupsafe
    pathspec
    prometheus-client
    pydantic
    pygit2
    pyroute2
    pyyaml
    qemu-qmp
    rich
    tenacity
    typer
    watchdog
    yarl
  ];
  # Those of requirements.lock are what was tested; nixpkgs has its own.
  pythonRelaxDeps = true;
  doCheck = false; # its tests start guests

  nativeBuildInputs = [ installShellFiles ];
  makeWrapperArgs = [
    "--prefix PATH : ${
      lib.makeBinPath [
        apt
        dpkg
        e2fsprogs
        erofs-utils
        lz4
        openssh
        qemu
        squashfsTools
        util-linux
        zstd
      ]
    }"
    "--prefix LD_LIBRARY_PATH : ${lib.makeLibraryPath [ lz4 ]}"
  ];
  postInstall = ''
    install -D -m 644 -t $out/lib/systemd/system deploy/systemd/*
    install -D -m 644 -t $out/lib/tmpfiles.d deploy/tmpfiles.d/*
    substituteInPlace $out/lib/systemd/system/reconciler.service \
      --replace-fail /usr/bin/reconciler $out/bin/reconciler \
      --replace-fail ExecReload=kill ExecReload=${coreutils}/bin/kill \
      --replace-fail /usr/lib/reconciler/apt.conf /etc/reconciler/apt.conf
    substituteInPlace $out/lib/systemd/system/reconciler-front.service \
      --replace-fail /usr/bin/reconciler $out/bin/reconciler
    python deploy/words.py manual >reconciler.1
    for shell in bash zsh fish; do
      python deploy/words.py completion $shell >reconciler.$shell
    done
    installManPage reconciler.1
    installShellCompletion reconciler.bash reconciler.zsh reconciler.fish
  '';

  meta = {
    inherit (project) description;
    license = lib.licenses.asl20;
    mainProgram = "reconciler";
    platforms = [ "x86_64-linux" ];
  };
}
