import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { ConfFile } from './facts.ts';
import { matchesGlob } from './glob.ts';
import { iniBoolean, parseIni } from './ini.ts';
import { isUnmanaged } from './network-manager.ts';
import { managesForeignRoutes, networkFileFor } from './networkd.ts';

const DEVICE = 'cali0123456789a';
const file = (text: string, path = '/etc/x.conf'): ConfFile => ({ path, text });

describe('a pattern', () => {
  test.each([
    ['cali*', DEVICE, true],
    ['cali*', 'xcali1', false],
    ['cali', DEVICE, false],
    ['*', '', true],
    ['c?li0*', DEVICE, true],
    ['e[nt][0-9]', 'en1', true],
    ['e[!n]0', 'en0', false],
    ['e[!n]0', 'et0', true],
    ['a.c', 'abc', false],
    ['a+(b)|c', 'a+(b)|c', true],
    [String.raw`a\b`, String.raw`a\b`, true],
  ])('%s matches %s: %s', (pattern, text, expected) => {
    expect(matchesGlob(pattern, text)).toBe(expected);
  });

  test('never throws, and a text without special characters matches itself only', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (pattern, text) => {
        const matched = matchesGlob(pattern, text);
        if (!/[*?[]/.test(pattern)) expect(matched).toBe(pattern === text);
      }),
    );
  });
});

test('an INI file has sections, assignments and comments', () => {
  expect(parseIni('; c\n# c\n[a]\nk = v = w\n k+=x\nrubbish\n[b]\n=x\ne=\n')).toEqual([
    { section: 'a', key: 'k', value: 'v = w' },
    { section: 'a', key: 'k+', value: 'x' },
    { section: 'b', key: 'e', value: '' },
  ]);
  expect(['yes', '1', 'True', 'on'].map(iniBoolean)).toEqual([true, true, true, true]);
  expect(['no', '0', 'false', 'off'].map(iniBoolean)).toEqual([false, false, false, false]);
  expect(iniBoolean('perhaps')).toBeUndefined();
});

describe('NetworkManager', () => {
  test.each<[string, readonly string[], boolean]>([
    ['no configuration', [], false],
    ['a pattern for our devices', ['[keyfile]\nunmanaged-devices=interface-name:cali*'], true],
    [
      'a list with others',
      ['[keyfile]\nunmanaged-devices=mac:66:77:88:99:00:11;interface-name:flannel*;interface-name:cali*'],
      true,
    ],
    ['a list by commas', ['[keyfile]\nunmanaged-devices=interface-name:docker0,interface-name:cali*'], true],
    ['a pattern for other devices', ['[keyfile]\nunmanaged-devices=interface-name:docker*'], false],
    ['one device by its whole name', ['[keyfile]\nunmanaged-devices=interface-name:=cali*'], false],
    ['all devices', ['[keyfile]\nunmanaged-devices=*'], true],
    ['all veth devices', ['[keyfile]\nunmanaged-devices=driver:veth'], true],
    ['all devices except one', ['[keyfile]\nunmanaged-devices=except:interface-name:eth0'], true],
    ['all devices except ours', ['[keyfile]\nunmanaged-devices=*;except:interface-name:cali*'], false],
    ['a pattern in the wrong section', ['[main]\nunmanaged-devices=interface-name:cali*'], false],
    ['a comment', ['[keyfile]\n#unmanaged-devices=interface-name:cali*'], false],
    [
      'a later file that replaces the list',
      ['[keyfile]\nunmanaged-devices=interface-name:cali*', '[keyfile]\nunmanaged-devices=interface-name:eth9'],
      false,
    ],
    [
      'a later file that adds to the list',
      ['[keyfile]\nunmanaged-devices=interface-name:eth9', '[keyfile]\nunmanaged-devices+=interface-name:cali*'],
      true,
    ],
    [
      'a later file that takes from the list',
      ['[keyfile]\nunmanaged-devices=interface-name:cali*', '[keyfile]\nunmanaged-devices-=interface-name:cali*'],
      false,
    ],
    ['a section for our devices', ['[device-tortie]\nmatch-device=interface-name:cali*\nmanaged=0'], true],
    ['a section for other devices', ['[device-x]\nmatch-device=interface-name:eth*\nmanaged=0'], false],
    ['a section for all', ['[device]\nmanaged=false'], true],
    ['a section that manages', ['[device-tortie]\nmatch-device=interface-name:cali*\nmanaged=1'], false],
  ])('with %s', (_, texts, expected) => {
    expect(
      isUnmanaged(
        texts.map((text) => file(text)),
        [],
        DEVICE,
      ),
    ).toBe(expected);
  });

  test.each([
    ['ENV{ID_NET_DRIVER}=="veth", ENV{NM_UNMANAGED}="1"', true],
    ['ENV{ID_NET_DRIVER}=="tun|veth", ENV{NM_UNMANAGED}="1"', true],
    ['ENV{ID_NET_DRIVER}=="tun", ENV{NM_UNMANAGED}="1"', false],
    ['# ENV{ID_NET_DRIVER}=="veth", ENV{NM_UNMANAGED}="1"', false],
  ])('by the udev rule %s: %s', (rule, expected) => {
    expect(isUnmanaged([], [file(`SUBSYSTEM!="net", GOTO="end"\n${rule}\n`)], DEVICE)).toBe(expected);
  });
});

describe('systemd-networkd', () => {
  const network = (name: string, text: string, dir = '/etc/systemd/network'): ConfFile => file(text, `${dir}/${name}`);

  test.each<[string, readonly ConfFile[], string | undefined]>([
    ['no files', [], undefined],
    ['a file for every device', [network('a.network', '[Match]\nName=*')], '/etc/systemd/network/a.network'],
    ['a file for Ethernet', [network('a.network', '[Match]\nType=ether')], '/etc/systemd/network/a.network'],
    ['a file for uplinks', [network('a.network', '[Match]\nName=en* eth*')], undefined],
    ['a file for our kind', [network('a.network', '[Match]\nKind=veth\nName=cali*')], '/etc/systemd/network/a.network'],
    ['a file for another kind with our name', [network('a.network', '[Match]\nKind=bridge\nName=cali*')], undefined],
    ['a file for one MAC address', [network('a.network', '[Match]\nName=*\nMACAddress=aa:bb:cc:dd:ee:ff')], undefined],
    ['a file without a match', [network('a.network', '[Network]\nDHCP=yes')], undefined],
    ['all but some', [network('a.network', '[Match]\nName=!eth*')], '/etc/systemd/network/a.network'],
    ['all but ours', [network('a.network', '[Match]\nName=!cali* eth*')], undefined],
    [
      'one that leaves ours alone first',
      [
        network('z.network', '[Match]\nName=*'),
        network('00-tortie.network', '[Match]\nName=cali*\n[Link]\nUnmanaged=yes'),
      ],
      undefined,
    ],
    [
      'one that leaves ours alone too late',
      [network('a.network', '[Match]\nName=*'), network('b.network', '[Match]\nName=cali*\n[Link]\nUnmanaged=yes')],
      '/etc/systemd/network/a.network',
    ],
    [
      'one of /usr/lib that /etc masks',
      [network('a.network', ''), network('a.network', '[Match]\nName=*', '/usr/lib/systemd/network')],
      undefined,
    ],
    [
      'names in order, whatever directory',
      [
        network('b.network', '[Match]\nName=cali*'),
        network('a.network', '[Match]\nName=*', '/usr/lib/systemd/network'),
      ],
      '/usr/lib/systemd/network/a.network',
    ],
  ])('with %s', (_, files, expected) => {
    expect(networkFileFor(files, DEVICE)).toBe(expected);
  });

  const setting = (value: string, path = '/etc/systemd/networkd.conf'): ConfFile =>
    file(`[Network]\nManageForeignRoutes=${value}`, path);
  test.each<[string, readonly ConfFile[], readonly ConfFile[], boolean]>([
    ['as it comes', [], [], true],
    ['told not to', [setting('no')], [], false],
    [
      'told not to in the file that does not count',
      [setting('yes'), setting('no', '/usr/lib/systemd/networkd.conf')],
      [],
      true,
    ],
    ['told not to by a drop-in', [setting('yes')], [setting('false', '/etc/systemd/networkd.conf.d/t.conf')], false],
    ['told otherwise by a later drop-in', [], [setting('no', '/run/a.conf'), setting('yes', '/etc/b.conf')], true],
    ['told nothing that it understands', [setting('perhaps')], [], true],
  ])('%s, removes foreign routes: %s', (_, main, dropIns, expected) => {
    expect(managesForeignRoutes(main, dropIns)).toBe(expected);
  });
});
