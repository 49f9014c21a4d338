# As much of nixpkgs' library as deploy/nixos/module.nix uses, with its meaning: Debian has Nix, not nixpkgs.
# Types are checked, defaults filled in, and what has neither a value nor a default is an error.
let
  inherit (builtins)
    all
    attrNames
    concatMap
    isAttrs
    isBool
    isFloat
    isInt
    isList
    isString
    mapAttrs
    typeOf
    ;

  type = name: check: {
    _type = "option-type";
    inherit name check;
    value = _: given: given;
  };
  int = from: to: type "integer ${toString from}.." (v: isInt v && v >= from && (to == null || v <= to));
  types = rec {
    str = type "string" isString;
    bool = type "boolean" isBool;
    number = type "number" (v: isInt v || isFloat v);
    port = int 0 65535;
    ints.unsigned = int 0 null;
    ints.positive = int 1 null;
    path = type "path" (v: isString v && builtins.substring 0 1 v == "/");
    package = type "package" (v: isAttrs v && v ? outPath);
    enum = words: type "one of ${toString words}" (v: builtins.elem v words);
    listOf = of: type "list of ${of.name}" (v: isList v && all of.check v);
    attrsOf = of: type "set of ${of.name}" (v: isAttrs v && all (n: of.check v.${n}) (attrNames v));
    submodule = { options, freeformType }: {
      inherit options;
      _type = "option-type";
      name = "submodule";
      check = isAttrs;
      value = where: given: freeformType.free where given // fill where options given;
    };
  };

  lib = {
    inherit types;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = what: lib.mkOption {
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
    optional = yes: one: if yes then [ one ] else [ ];
    optionalAttrs = yes: set: if yes then set else { };
    mkIf = yes: content: if yes then content else { };
    literalExpression = text: { inherit text; };
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
  };

  # The values of a tree of options, from what was given.
  fill =
    where: options: given:
    mapAttrs (
      name: option:
      let
        at = "${where}.${name}";
      in
      if option._type or "" != "option" then
        fill at option (given.${name} or { })
      else if given ? ${name} || option ? default then
        let
          value = given.${name} or option.default;
        in
        if option.type.check value then
          option.type.value at value
        else
          throw "${at}: a ${typeOf value} is no ${option.type.name}"
      else
        throw "${at}: is used but not defined"
    ) options;

  strangers =
    where: options: given:
    concatMap (
      name:
      if !(options ? ${name}) then
        [ "${where}.${name}" ]
      else if options.${name}._type or "" != "option" then
        strangers "${where}.${name}" options.${name} given.${name}
      else
        [ ]
    ) (attrNames given);

  pkgs = {
    formats.toml = _: {
      type.free = _: given: given;
      generate = name: value: { inherit name value; outPath = "/nix/store/${name}"; };
    };
    writeText = name: text: {
      inherit name text;
      outPath = "/nix/store/${name}";
    };
    callPackage = _: _: { outPath = "/nix/store/reconciler"; };
  };

  described =
    where: options:
    concatMap (
      name:
      let
        option = options.${name};
        at = if where == "" then name else "${where}.${name}";
      in
      if option._type or "" != "option" then
        described at option
      else
        [
          {
            name = at;
            type = option.type.name;
            words = option.description;
            hasDefault = option ? default;
          }
        ]
        ++ (if option.type ? options then described at option.type.options else [ ])
    ) (attrNames options);
in
{
  inherit lib pkgs described;

  # What a system with this module and these values of services.reconciler would have.
  evaluate =
    module: given:
    let
      made = module {
        inherit lib pkgs;
        config = {
          services.reconciler = values;
          environment.etc = made.config.environment.etc;
          nix.package = "/nix/store/nix";
        };
      };
      options = made.options.services.reconciler;
      wrong = strangers "services.reconciler" options given;
      values =
        if wrong == [ ] then
          fill "services.reconciler" options given
        else
          throw "${builtins.head wrong}: there is no such option";
    in
    {
      inherit options values;
      inherit (made) config;
    };
}
