/**
 * Objects by one of their labels. Most values of most keys belong to one object, so a single one is kept bare and a set is made for two
 * and more: a set of one costs as much as the rest of an endpoint.
 */
export class LabelBuckets<T extends object> {
  readonly #byKey = new Map<string, Map<string, T | Set<T>>>();

  add(key: string, value: string, object: T): void {
    let values = this.#byKey.get(key);
    if (values === undefined) this.#byKey.set(key, (values = new Map()));
    const bucket = values.get(value);
    if (bucket === undefined) values.set(value, object);
    else if (bucket instanceof Set) bucket.add(object);
    else if (bucket !== object) values.set(value, new Set([bucket, object]));
  }

  delete(key: string, value: string, object: T): void {
    const values = this.#byKey.get(key);
    const bucket = values?.get(value);
    if (values === undefined || bucket === undefined) return;
    if (bucket instanceof Set) {
      bucket.delete(object);
      const [last] = bucket;
      if (bucket.size === 1 && last !== undefined) values.set(value, last);
    } else if (bucket === object) {
      values.delete(value);
      if (values.size === 0) this.#byKey.delete(key);
    }
  }

  addAll(labels: Readonly<Record<string, string>>, object: T): void {
    for (const [key, value] of Object.entries(labels)) this.add(key, value, object);
  }

  deleteAll(labels: Readonly<Record<string, string>>, object: T): void {
    for (const [key, value] of Object.entries(labels)) this.delete(key, value, object);
  }

  /** How many objects have the key with this value; with any value where none is given. */
  count(key: string, value?: string): number {
    const values = this.#byKey.get(key);
    if (values === undefined) return 0;
    if (value !== undefined) return sizeOf(values.get(value));
    let sum = 0;
    for (const bucket of values.values()) sum += sizeOf(bucket);
    return sum;
  }

  /** Calls `visit` for every object that has the key with this value; with any value where none is given. */
  each(key: string, value: string | undefined, visit: (object: T) => void): void {
    const values = this.#byKey.get(key);
    if (values === undefined) return;
    if (value === undefined) for (const bucket of values.values()) visitBucket(bucket, visit);
    else visitBucket(values.get(value), visit);
  }
}

function sizeOf(bucket: object | undefined): number {
  return bucket === undefined ? 0 : bucket instanceof Set ? bucket.size : 1;
}

function visitBucket<T extends object>(bucket: T | Set<T> | undefined, visit: (object: T) => void): void {
  if (bucket === undefined) return;
  if (bucket instanceof Set) for (const object of bucket) visit(object);
  else visit(bucket);
}
