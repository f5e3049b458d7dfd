import { expect, test } from '@jest/globals';
import { pino } from 'pino';
import { parseAs } from '#api/kinds.ts';
import { MemoryDatastore } from '#datastore/memory/memory-datastore.ts';
import { until } from '#test/lab/until.ts';
import { ObjectStore } from './store/object-store.ts';
import { UnsupportedFields } from './unsupported-fields.ts';

test('a field that is not acted on is listed with its object, logged once, and gone when it is', async () => {
  const lines: string[] = [];
  const log = pino({ level: 'warn' }, { write: (line: string) => void lines.push(line) });
  const datastore = new MemoryDatastore();
  await using store = new ObjectStore(datastore, pino({ level: 'silent' }));
  const unsupported = new UnsupportedFields(log);
  unsupported.follow(store);
  store.start();
  await store.synced();
  const pool = parseAs('IPPool', {
    apiVersion: 'projectcalico.org/v3',
    kind: 'IPPool',
    metadata: { name: 'v4' },
    spec: { cidr: '10.65.0.0/16', ipipMode: 'Always' },
  }).object;
  const stored = await datastore.create('IPPool', pool);
  await until(() => unsupported.list().length > 0);
  expect(unsupported.list()).toEqual([{ object: 'IPPool v4', fields: ['spec.ipipMode'] }]);
  const changed = await datastore.update('IPPool', { ...stored, spec: { ...stored.spec, natOutgoing: true } });
  await datastore.update('IPPool', { ...changed, spec: { ...changed.spec, ipipMode: 'Never' } });
  await until(() => unsupported.list().length === 0);
  expect(lines).toHaveLength(1);
  expect(lines[0]).toContain('spec.ipipMode');
});
