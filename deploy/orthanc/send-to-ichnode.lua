-- Sends every CT series that has come in to ichnode, but not what ichnode made.
function OnStableSeries(series, tags, metadata)
  local description = tags['SeriesDescription'] or ''
  if tags['Modality'] == 'CT' and string.find(description, 'AI RESEARCH', 1, true) ~= 1 then
    RestApiPost('/modalities/ichnode/store', '{"Resources": ["' .. series .. '"], "Synchronous": false}')
  end
end
