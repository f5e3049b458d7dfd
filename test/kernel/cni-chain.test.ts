/**
 * Tortie as one plugin of a chain, called by the reference cnitool; and with addresses from Debian's host-local.
 *
 *   cnitool -> tortie (-> host-local) -> portmap -> bandwidth
 */
import { afterEach, beforeAll, describe, expect, test } from '@jest/globals';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { exec } from '../lab/exec.ts';
import type { TestNetns } from '../lab/netns.ts';
import { cnitool } from '../go/cnitool.ts';
import { CniTestbed, containerId, debianPlugins, launcher, type Mode } from './cni-testbed.ts';

const modes: readonly Mode[] = ['agent', 'standalone'];
const portMappings = [{ hostPort: 8080, containerPort: 80, protocol: 'tcp' }];
const bandwidth = { ingressRate: 8_000_000, ingressBurst: 80_000, egressRate: 8_000_000, egressBurst: 80_000 };

describe.each(modes)('in a chain, %s', (mode) => {
  let bed: CniTestbed;
  let tool: string;
  beforeAll(async () => {
    tool = await cnitool();
  }, 300_000);
  afterEach(async () => {
    await bed[Symbol.asyncDispose]();
  });

  /** Runs cnitool in the node's namespace, on the conflist that `configure` wrote. */
  const run = (verb: string, container: TestNetns, capabilities: object = {}) =>
    exec('nsenter', [`--net=${bed.node.path}`, tool, verb, 'chain', container.path], {
      env: {
        NETCONFPATH: join(bed.dir, 'net.d'),
        CNI_PATH: `${join(launcher, '..')}:${debianPlugins}`,
        CAP_ARGS: JSON.stringify(capabilities),
        CNI_ARGS: '',
        HOME: bed.dir,
        TORTIE_NODE_NAME: 'node-1',
        TORTIE_STATE_DIR: join(bed.dir, 'state'),
      },
    });
  const configure = (cniVersion: string, ...further: object[]) => {
    const { name: _, cniVersion: __, ...plugin } = bed.conf() as Record<string, unknown>;
    mkdirSync(join(bed.dir, 'net.d'), { recursive: true });
    writeFileSync(
      join(bed.dir, 'net.d/10-chain.conflist'),
      JSON.stringify({ cniVersion, name: 'chain', plugins: [plugin, ...further] }),
    );
  };

  test('cnitool adds, checks, reports the status, collects garbage and removes', async () => {
    bed = await CniTestbed.create(mode);
    configure('1.1.0');
    const [kept, lost] = [await bed.container(), await bed.container()];
    expect(await run('status', kept)).toMatchObject({ status: 0 });
    const added = await run('add', kept);
    expect(added).toMatchObject({ status: 0 });
    expect(JSON.parse(added.stdout)).toMatchObject({
      cniVersion: '1.1.0',
      ips: [{ address: expect.stringMatching(/^10\.65\.0\.\d+\/32$/), interface: 1 }],
    });
    expect(await run('check', kept)).toMatchObject({ status: 0 });
    await kept.exec('ip', 'route', 'del', 'default');
    expect(await run('check', kept)).toMatchObject({ status: 1, stderr: expect.stringContaining('via 169.254.1.1') });

    expect(await run('add', lost)).toMatchObject({ status: 0 });
    expect(await bed.devices()).toHaveLength(2);
    // cnitool's gc knows no container at all.
    expect(await run('gc', kept)).toMatchObject({ status: 0, stderr: '' });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);

    for (const container of [kept, lost]) expect(await run('del', container)).toMatchObject({ status: 0 });
  });

  test.each(['0.3.1', '0.4.0', '1.0.0'])('[%s] portmap and bandwidth work on our result', async (cniVersion) => {
    bed = await CniTestbed.create(mode);
    configure(
      cniVersion,
      { type: 'portmap', capabilities: { portMappings: true }, snat: true },
      { type: 'bandwidth', capabilities: { bandwidth: true } },
    );
    const container = await bed.container();
    const added = await run('add', container, { portMappings, bandwidth });
    expect(added).toMatchObject({ status: 0, stderr: '' });
    const { ips, interfaces } = JSON.parse(added.stdout) as {
      ips: { address: string }[];
      interfaces: { name: string }[];
    };
    const rules = await bed.node.exec('iptables-save', '-t', 'nat');
    expect(rules).toContain(`--to-destination ${ips[0]?.address.split('/')[0]}:80`);
    const device = interfaces[0]?.name ?? '';
    expect(await bed.node.exec('tc', 'qdisc', 'show', 'dev', device)).toContain('tbf');
    expect(await run('del', container, { portMappings, bandwidth })).toMatchObject({ status: 0, stderr: '' });
    expect(await bed.devices()).toEqual([]);
    expect(await bed.addressesInUse()).toBe(0);
  });

  // Not with portmap: its CHECK in Debian's version looks for the IPv4 rules among ip6tables'.
  test('CHECK passes through a chain with bandwidth', async () => {
    bed = await CniTestbed.create(mode);
    configure('1.0.0', { type: 'bandwidth', capabilities: { bandwidth: true } });
    const container = await bed.container();
    expect(await run('add', container, { bandwidth })).toMatchObject({ status: 0, stderr: '' });
    expect(await run('check', container, { bandwidth })).toMatchObject({ status: 0, stderr: '' });
    expect(await run('del', container, { bandwidth })).toMatchObject({ status: 0, stderr: '' });
    expect(await bed.devices()).toEqual([]);
  });

  test.each([
    ['a subnet', { subnet: '10.77.0.0/24' }, ['10.77.0.2/32']],
    ['the node’s podCIDR', { subnet: 'usePodCidr' }, ['10.66.1.2/32']],
    [
      'the node’s podCIDRs',
      { ranges: [[{ subnet: 'usePodCidr' }], [{ subnet: 'usePodCidrIPv6' }]] },
      ['10.66.1.2/32', 'fd66:1::2/128'],
    ],
  ])('host-local gives addresses from %s', async (_what, ranges, addresses) => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const id = containerId('local');
    const conf = { ipam: { type: 'host-local', dataDir: join(bed.dir, 'host-local'), ...ranges } };
    const added = await bed.call('ADD', container.path, id, { conf });
    expect(added).toMatchObject({ status: 0 });
    expect((added.json['ips'] as unknown as { address: string }[]).map(({ address }) => address)).toEqual(addresses);
    const prevResult = added.json;
    expect(await bed.call('CHECK', container.path, id, { conf: { ...conf, prevResult } })).toMatchObject({ status: 0 });
    expect(await bed.call('DEL', container.path, id, { conf })).toMatchObject({ status: 0 });
    // Given back: host-local goes round, so its own files tell.
    const files = await exec('find', [join(bed.dir, 'host-local'), '-type', 'f', '-name', '[0-9f]*']);
    expect(files.stdout).toBe('');
  });

  test('a delegated plugin’s own error comes through, and nothing is left', async () => {
    bed = await CniTestbed.create(mode);
    const container = await bed.container();
    const none = await bed.call('ADD', container.path, containerId('x'), {
      conf: { ipam: { type: 'no-such-plugin' } },
    });
    expect(none).toMatchObject({ status: 1, json: { code: 7, msg: expect.stringContaining('no-such-plugin') } });
    const wrong = await bed.call('ADD', container.path, containerId('y'), {
      conf: { ipam: { type: 'host-local', subnet: '10.0.0.0/31' } },
    });
    expect(wrong).toMatchObject({ status: 1, json: { msg: expect.stringMatching(/host-local.*too small/) } });
    const outside = await bed.call('ADD', container.path, containerId('z'), { conf: { ipam: { type: '../bin/sh' } } });
    expect(outside).toMatchObject({ status: 1, json: { code: 7, msg: expect.stringContaining('ipam.type') } });
    expect(await bed.devices()).toEqual([]);
  });
});
