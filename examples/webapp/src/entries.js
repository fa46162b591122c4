"use strict";

const LONGEST = 200;

// The text of an entry without blanks around it. Throws RangeError if it is empty or too long.
exports.checked = (text) => {
  const entry = text.trim();
  if (!entry) throw new RangeError("an entry has a text");
  if (entry.length > LONGEST) throw new RangeError(`an entry has at most ${LONGEST} characters`);
  return entry;
};
