# Manifests for the guests of a flake of microvm.nix, by its nixosConfigurations. In that flake, which is
# in a folder of the repository (here flakes/vms):
#   manifests = inputs.reconciler.lib.manifests { flake = "./flakes/vms"; guests = self.nixosConfigurations; };
# and beside that folder, after each change of names, memory, CPUs or ports:
#   nix eval --raw ./flakes/vms#manifests >vms.yaml
{
  # The folder of the flake as the manifest names it, or a locked reference.
  flake,
  # Those without `config.microvm` are other systems, and left out.
  guests,
  # name: more of `metadata`, as its group.
  metadata ? _: { },
  # name: more of `spec`: health, update, rollback.
  spec ? _: { },
}:

let
  inherit (builtins) attrNames concatStringsSep filter map toJSON;

  forwarded = port: (port.from or "host") == "host" && (port.proto or "tcp") == "tcp";

  manifest =
    name:
    let
      inherit (guests.${name}.config) microvm;
    in
    {
      apiVersion = "reconciler/v1";
      kind = "MicroVM";
      metadata = { inherit name; } // metadata name;
      spec = {
        memory = "${toString microvm.mem}MiB";
        inherit (microvm) vcpu;
        runner = {
          inherit flake;
          attribute = "nixosConfigurations.${name}.config.microvm.declaredRunner";
          ports = map (port: port.host.port) (filter forwarded (microvm.forwardPorts or [ ]));
        };
      } // spec name;
    };
in
# JSON is YAML, and this way each is a document on a line of its own.
concatStringsSep "---\n" (
  map (name: "${toJSON (manifest name)}\n") (
    filter (name: guests.${name}.config ? microvm) (attrNames guests)
  )
)
