import { expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs } from '#api/kinds.ts';
import type { Address, Netlink } from '#native/types.ts';
import type { ObjectStore } from '../store/object-store.ts';
import { NodeMtu } from './node-mtu.ts';

test('an answer that comes late does not replace the one of a later reading', async () => {
  let internal = '192.0.2.1';
  const node = () =>
    parseAs('Node', {
      apiVersion: 'v1',
      kind: 'Node',
      metadata: { name: 'n' },
      status: { addresses: [{ type: 'InternalIP', address: internal }] },
    }).object;
  const store = { of: () => ({ get: node }) } as unknown as ObjectStore;
  const answers: PromiseWithResolvers<readonly Address[]>[] = [];
  const host = {
    addresses: () => {
      const answer = Promise.withResolvers<readonly Address[]>();
      answers.push(answer);
      return answer.promise;
    },
    link: (index: number) => ({ mtu: index * 1000 }),
  } as unknown as Netlink;
  const mtu = new NodeMtu(host, store, 'n', pino({ level: 'silent' }));
  const earlier = mtu.refresh();
  internal = '192.0.2.2';
  const later = mtu.refresh();
  const addresses = [1, 2].map((index) => ({ address: `192.0.2.${index}/24`, linkIndex: index }) as unknown as Address);
  answers[1]?.resolve(addresses);
  await later;
  answers[0]?.resolve(addresses);
  await earlier;
  expect(mtu.current).toBe(2000);
});
