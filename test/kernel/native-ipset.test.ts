import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { networkOf, parseIp } from '#api/cidr.ts';
import { IpsetDigest } from '#native/ipset-digest.ts';
import { type Ipset, type IpsetFailure, type IpsetSpec, openIpset } from '#native/ipset.ts';
import { createNetns } from '#test/lab/netns.ts';

const sets: { spec: IpsetSpec; members: string[] }[] = [
  {
    spec: { name: 'net4', type: 'hash:net', family: 4, maxelem: 1000 },
    members: ['10.0.0.0/8', '10.65.0.3', '192.168.1.0/31'],
  },
  { spec: { name: 'net6', type: 'hash:net', family: 6, hashsize: 128 }, members: ['fd00::/64', 'fd00::1'] },
  { spec: { name: 'ip4', type: 'hash:ip', family: 4 }, members: ['10.0.0.1', '10.0.0.2'] },
  { spec: { name: 'ip6', type: 'hash:ip', family: 6 }, members: ['fd00::1', 'fd00::2'] },
  {
    spec: { name: 'iface4', type: 'hash:net,iface', family: 4 },
    members: ['10.0.0.0/8,cali1', '0.0.0.0/0,eth0', '10.0.0.1,cali1'],
  },
  {
    spec: { name: 'port4', type: 'hash:ip,port', family: 4 },
    members: ['10.0.0.1,tcp:80', '10.0.0.1,udp:80', '10.0.0.2,sctp:65535', '10.0.0.2,udplite:1'],
  },
  {
    spec: { name: 'port6', type: 'hash:ip,port', family: 6 },
    members: ['fd00::1,tcp:80', 'fd00::1,udp:53', 'fd00::2,sctp:7'],
  },
  { spec: { name: 'iface6', type: 'hash:net,iface', family: 6 }, members: ['fd00::/64,cali1', 'fd00::1,cali2'] },
];

/** Changes one set. */
const update = (
  ipset: Ipset,
  name: string,
  add: readonly string[],
  del: readonly string[],
): Promise<readonly IpsetFailure[]> => ipset.update([{ name, add, del }]);
const membersOf = async (ipset: Ipset, name: string): Promise<readonly string[]> => {
  const [found] = await ipset.contents([name]);
  if (found === undefined) throw new Error(`there is no set ${name}`);
  return found.members;
};

/** What ipset(8) says are the members. */
const savedMembers = (saved: string, name: string): string[] =>
  saved
    .split('\n')
    .filter((line) => line.startsWith(`add ${name} `))
    .map((line) => line.slice(`add ${name} `.length).trim());

/** Networks with many zeros and the parts of mapped and compatible IPv4 addresses, in the text that the API gives them. */
const ipv6Net = fc
  .record({
    groups: fc.array(fc.constantFrom(0, 0, 0, 1, 0xffff, 0xa00), { minLength: 8, maxLength: 8 }),
    prefix: fc.constantFrom(1, 16, 48, 64, 96, 112, 127, 128, 128, 128),
  })
  .map(({ groups, prefix }) => {
    const ip = parseIp(groups.map((group) => group.toString(16)).join(':'));
    return networkOf(ip, prefix).text;
  });

describe('ipset', () => {
  test.each(sets)('$spec.name holds what it is given, as ipset(8) sees it', async ({ spec, members }) => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create(spec);
    expect(await update(ipset, spec.name, members, [])).toEqual([]);
    expect([...(await membersOf(ipset, spec.name))].sort()).toEqual([...members].sort());
    expect(savedMembers(await ns.exec('ipset', 'save'), spec.name).sort()).toEqual([...members].sort());
    expect(await ipset.list()).toMatchObject([{ ...spec, count: members.length, references: 0 }]);

    expect(await update(ipset, spec.name, [], [members[0]!])).toEqual([]);
    expect([...(await membersOf(ipset, spec.name))].sort()).toEqual(members.slice(1).sort());
    await ipset.flush(spec.name);
    expect(await membersOf(ipset, spec.name)).toEqual([]);
    await ipset.destroy(spec.name);
    expect(await ipset.list()).toEqual([]);
  });

  test('a protocol may be a number, comes back by name where it has ports, and by number where not', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 's', type: 'hash:ip,port', family: 4 });
    const members = ['10.0.0.1,6:80', '10.0.0.1,17:53', '10.0.0.1,132:5', '10.0.0.1,136:6', '10.0.0.1,47:0'];
    expect(await update(ipset, 's', members, [])).toEqual([]);
    expect([...(await membersOf(ipset, 's'))].sort()).toEqual([
      '10.0.0.1,47:0',
      '10.0.0.1,sctp:5',
      '10.0.0.1,tcp:80',
      '10.0.0.1,udp:53',
      '10.0.0.1,udplite:6',
    ]);
    expect(await update(ipset, 's', [], members)).toEqual([]);
    expect(await membersOf(ipset, 's')).toEqual([]);
  });

  test('an IPv6 address has one text, as policies write it: hexadecimal throughout, the first longest run of zeros left out', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 's', type: 'hash:net', family: 6 });
    await fc.assert(
      fc.asyncProperty(fc.uniqueArray(ipv6Net, { minLength: 1, maxLength: 50 }), async (nets) => {
        const members = nets.map((net) => net.replace(/\/128$/, ''));
        await ipset.flush('s');
        expect(await update(ipset, 's', members, [])).toEqual([]);
        expect([...(await membersOf(ipset, 's'))].sort()).toEqual(members.sort());
        expect((await ipset.summaries('s')).map(({ digest }) => digest)).toEqual([IpsetDigest.of(members).toString()]);
      }),
      { numRuns: 40 },
    );
  });

  test.each([
    ['10.0.0.1,tcp:65536', 'EINVAL'],
    ['10.0.0.1,tcp:', 'EINVAL'],
    ['10.0.0.1,tcp:http', 'EINVAL'],
    ['10.0.0.1,0:80', 'EINVAL'],
    ['10.0.0.1,256:80', 'EINVAL'],
    ['10.0.0.1,:80', 'EINVAL'],
    ['10.0.0.1', expect.stringContaining('IPSET_ERR')],
    ['fd00::1,tcp:80', expect.any(String)],
  ])('%s does not go into a set of addresses and ports', async (member, code) => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 's', type: 'hash:ip,port', family: 4 });
    const failures = await update(ipset, 's', [member, '10.0.0.9,tcp:9'], []);
    expect(failures.map((failure) => [failure.member, failure.error.code])).toEqual([[member, code]]);
    expect(await membersOf(ipset, 's')).toEqual(['10.0.0.9,tcp:9']);
  });

  test('the digest of a set is that of its members, in any order, and without those that left', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    for (const { spec, members } of sets) {
      await ipset.create(spec);
      await update(ipset, spec.name, members, []);
      const digest = new IpsetDigest();
      for (const member of [...members, 'x'].reverse()) digest.add(member);
      digest.remove('x');
      expect(await ipset.summaries(spec.name)).toMatchObject([{ name: spec.name, digest: digest.toString() }]);
      expect(await ipset.contents(spec.name)).toMatchObject([{ digest: digest.toString() }]);
    }
  });

  test('adding what is there and deleting what is gone is no failure', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 's', type: 'hash:net', family: 4 });
    await update(ipset, 's', ['10.0.0.1'], []);
    expect(await update(ipset, 's', ['10.0.0.1', '10.0.0.2'], ['10.9.9.9'])).toEqual([]);
    expect([...(await membersOf(ipset, 's'))].sort()).toEqual(['10.0.0.1', '10.0.0.2']);
  });

  test('members with flags of others come back as ipset(8) writes them, and can be deleted so', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ns.exec('ipset', 'create', 's', 'hash:net,iface');
    await ns.exec('ipset', 'add', 's', '10.0.0.0/8,physdev:eth0', 'nomatch');
    await ns.exec('ipset', 'add', 's', '10.1.0.0/16,cali', 'wildcard');
    const members = await membersOf(ipset, 's');
    expect([...members].sort()).toEqual(['10.0.0.0/8,physdev:eth0 nomatch', '10.1.0.0/16,cali wildcard']);
    expect(savedMembers(await ns.exec('ipset', 'save'), 's').sort()).toEqual([...members].sort());
    expect(await update(ipset, 's', [], members)).toEqual([]);
    expect(await membersOf(ipset, 's')).toEqual([]);
  });

  test('20,000 members go in, are listed and go out', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    const members = Array.from({ length: 20_000 }, (_, i) => `10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`);
    await ipset.create({ name: 'big', type: 'hash:net', family: 4, maxelem: 20_000 });
    expect(await update(ipset, 'big', members, [])).toEqual([]);
    expect(new Set(await membersOf(ipset, 'big'))).toEqual(new Set(members));
    expect(await update(ipset, 'big', [], members)).toEqual([]);
    expect(await membersOf(ipset, 'big')).toEqual([]);
  });

  test('swap exchanges contents, and refuses sets of different kinds', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 'a', type: 'hash:net', family: 4, maxelem: 10 });
    await ipset.create({ name: 'b', type: 'hash:net', family: 4, maxelem: 20 });
    await ipset.create({ name: 'c', type: 'hash:net', family: 6 });
    await update(ipset, 'a', ['10.0.0.1'], []);
    await update(ipset, 'b', ['10.0.0.2'], []);
    await ipset.swap('a', 'b');
    expect(await membersOf(ipset, 'a')).toEqual(['10.0.0.2']);
    expect(await membersOf(ipset, 'b')).toEqual(['10.0.0.1']);
    await expect(ipset.swap('a', 'c')).rejects.toMatchObject({
      code: 'IPSET_ERR_TYPE_MISMATCH',
      object: 'ipset.swap a c',
    });
    await expect(ipset.swap('a', 'nope')).rejects.toMatchObject({ code: 'IPSET_ERR_EXIST_SETNAME2' });
  });

  test('members that are refused are named, and the others are in', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 's', type: 'hash:net', family: 4 });
    const failures = await update(
      ipset,
      's',
      ['10.0.0.1', 'fd00::1', '10.0.0.2', '0.0.0.0/0', 'nonsense', '10.0.0.3'],
      [],
    );
    const byMember = [...failures].sort((a, b) => ((a.member ?? '') < (b.member ?? '') ? -1 : 1));
    expect(byMember.map(({ member, error }) => [member, error.code, error.object])).toEqual([
      ['0.0.0.0/0', 'IPSET_ERR_INVALID_CIDR', 'ipset.add s 0.0.0.0/0'],
      ['fd00::1', expect.any(String), 'ipset.add s fd00::1'],
      ['nonsense', 'EINVAL', 'ipset.add s'],
    ]);
    expect([...(await membersOf(ipset, 's'))].sort()).toEqual(['10.0.0.1', '10.0.0.2', '10.0.0.3']);
  });

  test('a full set takes no more, and each member left out is named', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    const members = Array.from({ length: 100 }, (_, i) => `10.0.0.${i}`);
    await ipset.create({ name: 's', type: 'hash:net', family: 4, maxelem: 8 });
    const failures = await update(ipset, 's', members, []);
    expect(new Set(failures.map(({ error }) => error.code))).toEqual(new Set(['IPSET_ERR_HASH_FULL']));
    expect([...(await membersOf(ipset, 's')), ...failures.map(({ member = '' }) => member)].sort()).toEqual(
      members.sort(),
    );
  });

  test('create is exclusive; of many sets those that can be made are', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    const set: IpsetSpec = { name: 's', type: 'hash:net', family: 4, maxelem: 10 };
    await ipset.create(set);
    await expect(ipset.create(set)).rejects.toMatchObject({ code: 'EEXIST', object: 'ipset.create s hash:net' });
    const more = Array.from({ length: 200 }, (_, n): IpsetSpec => ({
      ...set,
      name: `more-${n}`,
      family: n % 2 ? 4 : 6,
    }));
    const nonsense = { ...set, name: 'nonsense', type: 'hash:nonsense' } as unknown as IpsetSpec;
    const failures = await ipset.createAll([set, ...more, nonsense]);
    expect(Object.fromEntries(failures.map((failure) => [failure.set, failure.error.code]))).toEqual({
      nonsense: 'IPSET_ERR_FIND_TYPE',
      s: 'EEXIST',
    });
    expect(await ipset.list()).toHaveLength(201);
  });

  test('many sets are changed in one call; one that is not there fails alone', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.createAll([
      { name: 'a', type: 'hash:net', family: 4 },
      { name: 'b', type: 'hash:net', family: 6 },
    ]);
    const failures = await ipset.update([
      { name: 'a', add: ['10.0.0.1', '10.0.0.2'], del: [] },
      { name: 'nope', add: ['10.0.0.1'], del: [] },
      { name: 'a', add: [], del: ['10.0.0.1'] },
      { name: 'b', add: ['fd00::1'], del: [] },
    ]);
    expect(failures).toMatchObject([{ set: 'nope', error: { code: 'ENOENT' } }]);
    expect(failures[0]).not.toHaveProperty('member');
    expect(await ipset.contents('')).toMatchObject([
      { name: 'a', members: ['10.0.0.2'] },
      { name: 'b', members: ['fd00::1'] },
    ]);
    expect((await ipset.contents('b')).map(({ name }) => name)).toEqual(['b']);
    expect((await ipset.contents(['b', 'nope'])).map(({ name }) => name)).toEqual(['b']);
    expect(await ipset.contents([])).toEqual([]);
  });

  test('a set that a rule refers to is busy', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await ipset.create({ name: 's', type: 'hash:net', family: 4 });
    await ns.exec('iptables', '-A', 'INPUT', '-m', 'set', '--match-set', 's', 'src', '-j', 'ACCEPT');
    await expect(ipset.destroy('s')).rejects.toMatchObject({
      code: 'IPSET_ERR_BUSY',
      object: 'ipset.destroy s',
      message: expect.stringContaining('in use'),
    });
    expect(await ipset.list()).toMatchObject([{ name: 's', references: 1 }]);
  });

  test.each([
    ['flush', (ipset) => ipset.flush('nope')],
    ['destroy', (ipset) => ipset.destroy('nope')],
  ] satisfies [string, (ipset: ReturnType<typeof openIpset>) => Promise<unknown>][])(
    '%s of a set that does not exist is ENOENT',
    async (_, call) => {
      await using ns = await createNetns();
      using ipset = openIpset({ path: ns.path });
      await expect(call(ipset)).rejects.toMatchObject({ code: 'ENOENT', object: expect.stringContaining('nope') });
    },
  );

  test.each([
    ['name', { name: '', type: 'hash:net', family: 4 }],
    ['name', { name: 'x'.repeat(32), type: 'hash:net', family: 4 }],
    ['name', { name: 'a\0b', type: 'hash:net', family: 4 }],
    ['type', { name: 's', type: 7, family: 4 }],
    ['family', { name: 's', type: 'hash:net', family: 5 }],
    ['family', { name: 's', type: 'hash:net' }],
    ['maxelem', { name: 's', type: 'hash:net', family: 4, maxelem: -1 }],
    ['hashsize', { name: 's', type: 'hash:net', family: 4, hashsize: 1.5 }],
  ])('a bad %s is an error that says so', async (field, set) => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    await expect(ipset.create(set as IpsetSpec)).rejects.toMatchObject({
      code: 'EINVAL',
      message: expect.stringContaining(`set.${field}:`),
    });
    expect(await ipset.list()).toEqual([]);
  });

  test('a type that the kernel does not have is named', async () => {
    await using ns = await createNetns();
    using ipset = openIpset({ path: ns.path });
    const set = { name: 's', type: 'hash:nonsense', family: 4 } as unknown as IpsetSpec;
    await expect(ipset.create(set)).rejects.toMatchObject({
      code: 'IPSET_ERR_FIND_TYPE',
      object: 'ipset.create s hash:nonsense',
    });
  });

  test('after closing every call fails with EBADF', async () => {
    const ipset = openIpset();
    ipset[Symbol.dispose]();
    ipset[Symbol.dispose]();
    await expect(ipset.list()).rejects.toMatchObject({ code: 'EBADF' });
  });
});
