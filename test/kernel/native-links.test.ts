import { describe, expect, test } from '@jest/globals';
import { openNetlink } from '#native/netlink.ts';
import { createNetns } from '#test/lab/netns.ts';

describe('links', () => {
  test('a veth has each end in its namespace, with what was asked of it', async () => {
    await using host = await createNetns();
    await using pod = await createNetns();
    using netlink = openNetlink({ path: host.path });
    await netlink.run([
      {
        op: 'veth.add',
        name: 'cali1',
        mac: 'ee:ee:ee:ee:ee:ee',
        mtu: 1450,
        alias: 'default/web',
        up: true,
        peer: { name: 'eth0', mac: '0a:58:0a:41:00:03', mtu: 1450, up: true, netns: { path: pod.path } },
      },
    ]);
    const [hostEnd] = await host.ip('-d', 'link', 'show', 'cali1');
    const [podEnd] = await pod.ip('link', 'show', 'eth0');
    expect(hostEnd).toMatchObject({
      ifalias: 'default/web',
      mtu: 1450,
      address: 'ee:ee:ee:ee:ee:ee',
      linkinfo: { info_kind: 'veth' },
    });
    expect(podEnd).toMatchObject({ mtu: 1450, address: '0a:58:0a:41:00:03', operstate: 'UP' });
    expect(netlink.link('cali1')).toMatchObject({
      name: 'cali1',
      kind: 'veth',
      alias: 'default/web',
      up: true,
      running: true,
      mtu: 1450,
      peerIndex: podEnd?.['ifindex'],
    });
  });
});
