"use strict";
const assert = require("assert");
const test = require("node:test");
const { checked } = require("../src/entries");

test("blanks around an entry are left out", () => {
  assert.strictEqual(checked("  hello\n"), "hello");
});

test("an entry is neither empty nor long", () => {
  assert.throws(() => checked(" "), RangeError);
  assert.throws(() => checked("x".repeat(201)), RangeError);
});
