import type { ConfFile } from './facts.ts';
import { matchesGlob } from './glob.ts';
import { iniBoolean, parseIni } from './ini.ts';

/**
 * Whether NetworkManager's configuration leaves a veth device of this name alone (NetworkManager.conf(5): `unmanaged-devices` of the section
 * keyfile, `managed` of sections that match the device), or its udev rules do. `files` are in the order in which they are read; a later one has the last word.
 */
export function isUnmanaged(files: readonly ConfFile[], udevRules: readonly ConfFile[], device: string): boolean {
  let unmanaged: string[] = [];
  const sections = new Map<string, { match?: string; managed?: boolean }>();
  for (const { section, key, value } of files.flatMap(({ text }) => parseIni(text))) {
    if (section === 'keyfile') unmanaged = unmanagedDevices(unmanaged, key, value);
    if (!section.startsWith('device')) continue;
    const entry = sections.get(section) ?? {};
    sections.set(section, entry);
    const managed = iniBoolean(value);
    if (key === 'match-device') entry.match = value;
    if (key === 'managed' && managed !== undefined) entry.managed = managed;
  }
  return (
    matchesSpecs(unmanaged, device) ||
    [...sections.values()].some(
      // A section without a match is for all devices.
      ({ match, managed }) => managed === false && (match === undefined || matchesSpecs(specsOf(match), device)),
    ) ||
    udevRules.some(({ text }) => text.split('\n').some((line) => VETH_RULE.test(line)))
  );
}

/** The rule that NetworkManager itself installs in many distributions. */
const VETH_RULE = /^[^#]*ID_NET_DRIVER\}=="(?:[^"]*\|)?veth(?:\|[^"]*)?".*NM_UNMANAGED\}="1"/;

function unmanagedDevices(before: readonly string[], key: string, value: string): string[] {
  if (key === 'unmanaged-devices') return specsOf(value);
  if (key === 'unmanaged-devices+') return [...before, ...specsOf(value)];
  if (key === 'unmanaged-devices-') return before.filter((spec) => !specsOf(value).includes(spec));
  return [...before];
}

const specsOf = (value: string): string[] => value.split(/[;,]/).flatMap((spec) => spec.trim() || []);

/** A list matches if one of it does and no exception; a list of exceptions only matches everything else. */
function matchesSpecs(specs: readonly string[], device: string): boolean {
  const except = specs.filter((spec) => spec.startsWith('except:')).map((spec) => spec.slice('except:'.length));
  const rest = specs.filter((spec) => !spec.startsWith('except:'));
  if (except.some((spec) => matchesSpec(spec, device))) return false;
  return rest.some((spec) => matchesSpec(spec, device)) || (rest.length === 0 && except.length > 0);
}

function matchesSpec(spec: string, device: string): boolean {
  if (spec === '*') return true;
  const [, kind = 'interface-name', value = ''] =
    /^(?:(interface-name|type|driver|mac|[a-z-]+):)?(.*)$/.exec(spec) ?? [];
  switch (kind) {
    case 'interface-name':
      return value.startsWith('=') ? value.slice(1) === device : matchesGlob(value.replace(/^~/, ''), device);
    case 'type':
    case 'driver':
      return matchesGlob(value, 'veth');
    default:
      return false;
  }
}
