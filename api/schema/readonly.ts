/** `T` that nobody may change, at any depth: what the datastore hands out is frozen. */
export type DeepReadonly<T> = T extends object ? { readonly [K in keyof T]: DeepReadonly<T[K]> } : T;
