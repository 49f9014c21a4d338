# The reconciler for NixOS: in a system's flake,
#   inputs.reconciler.url = "git+https://git.example.org/microvm-reconciler?dir=deploy/nixos";
#   modules = [ inputs.reconciler.nixosModules.default ];
{
  description = "Keeps the microVMs of a host equal to what a git repository says";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-unstable";

  outputs = { self, nixpkgs }: {
    nixosModules.default = import ./module.nix;
    lib.manifests = import ./manifests.nix;
    packages.x86_64-linux.default = nixpkgs.legacyPackages.x86_64-linux.callPackage ./package.nix { };
    checks.x86_64-linux.package = self.packages.x86_64-linux.default;
  };
}
