-- What a machine asks of its broker is a list, and what it gets are certificates and values by name.
ALTER TABLE enrollments RENAME COLUMN csr TO asked;
UPDATE enrollments
SET asked = json_array(json_object('purpose', 'kubelet-client', 'pem', asked))
WHERE asked IS NOT NULL;
UPDATE enrollments
SET join_material = json_object(
    'certificates', json_object('kubelet-client', json_extract(join_material, '$.certificate')),
    'values', json_object('ca', json_extract(join_material, '$.ca'), 'endpoint', json_extract(join_material, '$.endpoint')))
WHERE join_material IS NOT NULL;
