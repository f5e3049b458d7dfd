import { describe, expect, test } from '@jest/globals';
import type { IptablesDataplane } from '#dataplanes/iptables/iptables.ts';
import type { DataplaneUpdate } from '#dataplanes/messages.ts';
import { ALLOW_ALL } from '#dataplanes/shared/test-config.ts';
import { announce, isCutOff, labConfig, NodeLab, reaches } from './iptables-lab.ts';

const variants = ['nft', 'legacy'] as const;
const tell = (dataplane: IptablesDataplane, ...updates: DataplaneUpdate[]): void => {
  for (const update of updates) dataplane.onUpdate(update);
};
const cases = variants.flatMap((variant) => ([4, 6] as const).map((family) => ({ variant, family })));

describe.each(cases)('anti-spoofing, iptables-$variant, IPv$family', ({ variant, family }) => {
  const [v4, outside, forged] =
    family === 4 ? ['10.65.0.', '192.0.2.2', '10.99.0.9'] : ['fd00:65::', '2001:db8::2', 'fd99::9'];

  test('a pod sends from its own address only, an unannounced device not at all', async () => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    // Everything answers and is routed back, so that only the check can stop a forged source.
    const deprecated = family === 4 ? [] : ['nodad', 'preferred_lft', '0']; // Never the source that the kernel picks by itself.
    await one.netns.exec('ip', 'addr', 'add', `${forged}/${family === 4 ? 32 : 128}`, 'dev', 'eth0', ...deprecated);
    await lab.node.exec('ip', 'route', 'add', forged, 'dev', 'cali1');
    await lab.outside.exec(
      'ip',
      `-${family}`,
      'route',
      'add',
      'default',
      'via',
      family === 4 ? '192.0.2.1' : '2001:db8::1',
    );
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, announce(1, one), { type: 'inSync' });
    expect((await dataplane.apply()).failed).toEqual([]);
    await reaches(one.netns, outside, forged);
    await reaches(two.netns, outside);

    await dataplane.activate();
    await reaches(one.netns, outside);
    await isCutOff(one.netns, outside, forged);
    await isCutOff(two.netns, outside);
    await isCutOff(two.netns, `${v4}1`);

    tell(dataplane, announce(2, two));
    expect((await dataplane.apply()).programmed).toEqual(['k8s/default/pod-2/eth0']);
    await reaches(two.netns, outside);
    await reaches(two.netns, `${v4}1`);
    await reaches(two.netns, family === 4 ? '192.0.2.1' : '2001:db8::1');
    await reaches(lab.node, `${v4}2`);

    tell(
      dataplane,
      labConfig(variant, { workloadSourceSpoofing: 'any' }),
      announce(1, one, { allowedSourcePrefixes: [family === 4 ? '10.99.0.0/16' : 'fd99::/16'] }),
    );
    await dataplane.apply();
    await reaches(one.netns, outside, forged);
  });
});

describe.each(variants)('the iptables dataplane on the kernel (iptables-%s)', (variant) => {
  test('forwards for pods where the FORWARD policy is DROP, after rules of others', async () => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    for (const tool of ['iptables', 'ip6tables']) await lab.node.exec(`${tool}-${variant}`, '-P', 'FORWARD', 'DROP');
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, announce(1, one), announce(2, two), { type: 'inSync' });
    await dataplane.apply();
    await isCutOff(one.netns, '10.65.0.2');
    await dataplane.activate();
    await reaches(one.netns, '10.65.0.2');
    await reaches(one.netns, 'fd00:65::2');
    await lab.node.exec(`iptables-${variant}`, '-A', 'FORWARD', '-s', '10.65.0.1', '-j', 'DROP');
    await reaches(one.netns, '10.65.0.2');
    dataplane.requestResync();
    await dataplane.apply();
    await isCutOff(one.netns, '10.65.0.2');
  });

  test('repairs flushed tables and sets, and says what it repaired', async () => {
    await using lab = await NodeLab.create();
    const one = await lab.addPod(1);
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, announce(1, one), { type: 'inSync' });
    await dataplane.apply();
    await dataplane.activate();
    const good = await lab.snapshot();

    await lab.node.exec(
      'sh',
      '-ec',
      `iptables-${variant} -t raw -F; ip6tables-${variant} -F; ip6tables-${variant} -X; ipset flush cali40wl-src`,
    );
    dataplane.requestResync();
    const { repaired, failed } = await dataplane.apply();
    expect(failed).toEqual([]);
    const gone = [...good.matchAll(/cali-[\w-]+/g)].map(([name]) => name);
    expect(repaired).toEqual(
      expect.arrayContaining([
        'ipset cali40wl-src: 1 members were missing',
        ...['cali-FORWARD', 'cali-from-wl-dispatch', ...gone.filter((name) => /^cali-[ft]u-/.test(name))].map(
          (name) => `table filter (ip6tables-${variant}): chain ${name} was missing`,
        ),
        `table filter (ip6tables-${variant}): our rules in chain FORWARD had been changed`,
        `table raw (iptables-${variant}): our rules in chain PREROUTING had been changed`,
        `table raw (iptables-${variant}): rules of chain cali-PREROUTING had been changed`,
      ]),
    );
    expect(repaired.filter((words) => words.includes('(iptables-') && words.includes('filter'))).toEqual([]);
    expect((await lab.snapshot()).split('\n').sort()).toEqual(good.split('\n').sort());

    await lab.node.exec('sh', '-ec', `iptables-${variant} -t raw -F; ipset destroy cali40wl-src`);
    dataplane.requestResync();
    expect((await dataplane.apply()).repaired).toContain('ipset cali40wl-src was missing');
    await reaches(one.netns, '192.0.2.1');
  });

  test('a successor after a kill writes nothing and interrupts nothing', async () => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    const first = lab.dataplane();
    tell(first, labConfig(variant), ALLOW_ALL, announce(1, one), announce(2, two), { type: 'inSync' });
    await first.apply();
    await first.activate();
    const [restores, before] = [lab.restores, await lab.snapshot()];

    const flood = one.netns.exec('ping', '-q', '-i', '0.005', '-c', '150', '-W', '30', '10.65.0.2');
    const second = lab.dataplane();
    tell(second, labConfig(variant), ALLOW_ALL, announce(1, one));
    await second.apply();
    tell(second, announce(2, two), { type: 'inSync' });
    expect(await second.apply()).toMatchObject({ failed: [], repaired: [] });
    await second.activate();
    expect(await flood).toContain(' 0% packet loss');
    expect(lab.restores).toBe(restores);
    expect(await lab.snapshot()).toBe(before);
  });

  test('a pod more costs one set member per family and no process', async () => {
    await using lab = await NodeLab.create();
    const [one, two] = [await lab.addPod(1), await lab.addPod(2)];
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, announce(1, one), { type: 'inSync' });
    await dataplane.apply();
    await dataplane.activate();
    const runs = lab.runs.length;
    tell(dataplane, announce(2, two));
    await dataplane.apply();
    expect(lab.runs).toHaveLength(runs);
    expect(await lab.node.exec('ipset', 'save', 'cali40wl-src')).toContain('10.65.0.2,cali2');
  });

  test("cleanup leaves the namespace exactly as before, others' rules and sets untouched", async () => {
    await using lab = await NodeLab.create();
    const one = await lab.addPod(1);
    await lab.node.exec(
      'sh',
      '-ec',
      `ipset create others hash:ip; ipset add others 192.0.2.77
       for t in iptables ip6tables; do
         $t-${variant} -N OTHERS; $t-${variant} -A FORWARD -m comment --comment "not ours" -j OTHERS; $t-${variant} -A OTHERS -p tcp --dport 81 -j DROP; $t-${variant} -A INPUT -j OTHERS
         $t-${variant} -t mangle -A PREROUTING -p udp --dport 82 -j ACCEPT
       done`,
    );
    const [before, others] = [await lab.snapshot(), await othersRules(lab, variant)];
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, announce(1, one), { type: 'inSync' });
    await dataplane.apply();
    await dataplane.activate();
    expect(await lab.snapshot()).not.toBe(before);
    expect(await othersRules(lab, variant)).toBe(others);
    await dataplane.release();
    await lab.dataplane().cleanup(); // Another instance, as after a crash.
    expect(await lab.snapshot()).toBe(before);
  });

  test('rules that an earlier agent left in the other variant go once this one stands', async () => {
    await using lab = await NodeLab.create();
    const other = variant === 'nft' ? 'legacy' : 'nft';
    const one = await lab.addPod(1);
    const old = lab.dataplane();
    tell(old, labConfig(other), ALLOW_ALL, { type: 'inSync' });
    await old.apply();
    await old.activate();
    await isCutOff(one.netns, '192.0.2.2');
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant), ALLOW_ALL, announce(1, one), { type: 'inSync' });
    await dataplane.apply();
    await dataplane.activate();
    expect(await lab.node.exec(`iptables-${other}-save`)).not.toContain('cali');
    await reaches(one.netns, '192.0.2.1');
  });

  test('the probe finds nothing missing here and leaves nothing', async () => {
    await using lab = await NodeLab.create();
    const before = await lab.snapshot();
    const dataplane = lab.dataplane();
    tell(dataplane, labConfig(variant));
    expect(await dataplane.probe()).toEqual([]);
    expect(await lab.snapshot()).toBe(before);
  });
});

/** All rules and sets that don't name us. */
async function othersRules(lab: NodeLab, variant: string): Promise<string> {
  const saved = await lab.node.exec('sh', '-ec', `iptables-${variant}-save; ip6tables-${variant}-save; ipset save`);
  return saved
    .split('\n')
    .filter((line) => /^(?:-A|create|add) /.test(line) && !line.includes('cali'))
    .join('\n');
}
